// Small exact values of every dtype, and what a collective must make of them.
//
// A rank's values repeat every kPeriod elements, and so does every reduction of them: one period is
// computed element by element, the rest are copies of it, which keeps large operations cheap under
// sanitizers. The period divides no chunk, window or segment, so that a misplaced one shows.
#pragma once
#include <algorithm>
#include <complex>
#include <cstdint>
#include <cstring>
#include <vector>

#include "collectives/communicator.h"
#include "core/kernels/reduce.h"

namespace treadle {

using Value = std::complex<double>;

// By memcmp, which sanitizers look at as a whole and not byte by byte.
inline bool same_bytes(ConstBytes a, ConstBytes b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

inline constexpr std::size_t kPeriod = 251;

// Rank and index give 1 or 2 (bool: 0 or 1) in no order, so that every sum and product of 8 ranks
// is exact in every float.
inline Value value_at(DType dtype, int rank, std::size_t i) {
  const auto key =
      static_cast<std::uint32_t>(static_cast<std::size_t>(rank) * kPeriod + i % kPeriod);
  const double odd = (key * 2654435761U) >> 31;
  if (dtype == DType::kBool) return odd;
  return is_complex(dtype) ? Value(1 + odd, 1 - odd) : Value(1 + odd);
}

template <typename T>
void put_as(std::byte* to, double value) {
  const T stored = static_cast<T>(value);
  std::memcpy(to, &stored, sizeof stored);
}

// Stores `value` as `dtype`; integers wrap.
inline void store_value(DType dtype, std::byte* to, Value value) {
  const auto whole =
      is_float(dtype) || is_complex(dtype) ? 0 : static_cast<std::int64_t>(value.real());
  const float as_float = static_cast<float>(value.real());
  switch (dtype) {
    case DType::kF64:
      return put_as<double>(to, value.real());
    case DType::kF32:
      return put_as<float>(to, value.real());
    case DType::kF16:
    case DType::kBF16:
      return narrow_from_f32(dtype, &as_float, to, 1);
    case DType::kI64:
      std::memcpy(to, &whole, 8);
      return;
    case DType::kI32:
      std::memcpy(to, &whole, 4);
      return;
    case DType::kI16:
      std::memcpy(to, &whole, 2);
      return;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      std::memcpy(to, &whole, 1);
      return;
    case DType::kC64:
      put_as<float>(to, value.real());
      return put_as<float>(to + 4, value.imag());
    case DType::kC128:
      put_as<double>(to, value.real());
      return put_as<double>(to + 8, value.imag());
  }
}

// `elems` elements from a sequence with that period, of which value(i) is element i.
template <typename ValueAt>
std::vector<std::byte> repeated(DType dtype, std::size_t elems, const ValueAt& value) {
  std::vector<std::byte> bytes(elems * size_of(dtype));
  const std::size_t computed = std::min(elems, kPeriod);
  for (std::size_t i = 0; i < computed; ++i) {
    store_value(dtype, bytes.data() + i * size_of(dtype), value(i));
  }
  // Doubles what is there, a whole number of periods each time.
  for (std::size_t done = computed * size_of(dtype); done < bytes.size();) {
    const std::size_t more = std::min(done, bytes.size() - done);
    std::memcpy(bytes.data() + done, bytes.data(), more);
    done += more;
  }
  return bytes;
}

inline std::vector<std::byte> input_of(DType dtype, int rank, std::size_t elems) {
  return repeated(dtype, elems, [&](std::size_t i) { return value_at(dtype, rank, i); });
}

inline Value combine(DType dtype, ReduceOp op, Value a, Value b) {
  const auto bits = [](Value v) { return static_cast<std::int64_t>(v.real()); };
  const bool is_bool = dtype == DType::kBool;
  switch (op) {
    case ReduceOp::kSum:
      return is_bool ? Value(static_cast<double>(bits(a) | bits(b))) : a + b;
    case ReduceOp::kAvg:
    case ReduceOp::kPremulSum:
      return a + b;
    case ReduceOp::kProd:
      return a * b;
    case ReduceOp::kMin:
      return std::min(a.real(), b.real());
    case ReduceOp::kMax:
      return std::max(a.real(), b.real());
    case ReduceOp::kBand:
      return static_cast<double>(bits(a) & bits(b));
    case ReduceOp::kBor:
      return static_cast<double>(bits(a) | bits(b));
    case ReduceOp::kBxor:
      return static_cast<double>(bits(a) ^ bits(b));
  }
  return a;
}

inline constexpr double kPremulFactor = 0.5;

// Element i of the reduction of all ranks' inputs.
inline Value reduced_at(DType dtype, ReduceOp op, int ranks, std::size_t i) {
  Value sum = value_at(dtype, 0, i);
  for (int r = 1; r < ranks; ++r) sum = combine(dtype, op, sum, value_at(dtype, r, i));
  if (op == ReduceOp::kPremulSum) sum *= kPremulFactor;
  if (op != ReduceOp::kAvg) return sum;
  // One rounded division in the accumulation type.
  if (dtype == DType::kF64 || dtype == DType::kC128) return sum / static_cast<double>(ranks);
  const auto divide = [&](double x) { return static_cast<float>(x) / static_cast<float>(ranks); };
  return {divide(sum.real()), divide(sum.imag())};
}

inline std::vector<std::byte> reduction_of(DType dtype, ReduceOp op, int ranks, std::size_t first,
                                           std::size_t elems) {
  return repeated(dtype, elems,
                  [&](std::size_t i) { return reduced_at(dtype, op, ranks, first + i); });
}

}  // namespace treadle
