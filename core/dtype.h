// Element types and reduce operators, and which pairs of them have a meaning.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace treadle {

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kC64,
  kC128,
};
inline constexpr int kDTypes = 12;

// kAvg is the sum divided by the number of ranks; kPremulSum multiplies every rank's input by
// that rank's factor first. 16-bit floats are widened to fp32 for the whole sum and rounded once.
enum class ReduceOp : std::uint8_t {
  kSum,
  kAvg,
  kMin,
  kMax,
  kProd,
  kBand,
  kBor,
  kBxor,
  kPremulSum,
};
inline constexpr int kReduceOps = 9;

std::size_t size_of(DType dtype);
std::string_view name_of(DType dtype);  // "f32"
std::string_view name_of(ReduceOp op);  // "sum"

// Whether `op` on `dtype` has a meaning here. Sums and products for every type (bool: sum and max
// are "or", prod and min are "and"); avg and premul_sum for floating point and complex only; min
// and max for everything but complex; bitwise operators for integers and bool only.
bool supports(ReduceOp op, DType dtype);

bool is_float(DType dtype);  // real floating point, 16-bit ones included
bool is_complex(DType dtype);

}  // namespace treadle
