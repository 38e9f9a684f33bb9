#include "core/dtype.h"

#include <array>

namespace treadle {
namespace {

struct DTypeRow {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<DTypeRow, kDTypes> kDTypeRows = {{
    {"f64", 8},
    {"f32", 4},
    {"f16", 2},
    {"bf16", 2},
    {"i64", 8},
    {"i32", 4},
    {"i16", 2},
    {"i8", 1},
    {"u8", 1},
    {"bool", 1},
    {"c64", 8},
    {"c128", 16},
}};
constexpr std::array<std::string_view, kReduceOps> kReduceOpNames = {
    "sum", "avg", "min", "max", "prod", "band", "bor", "bxor", "premul_sum"};

}  // namespace

std::size_t size_of(DType dtype) { return kDTypeRows.at(static_cast<std::size_t>(dtype)).bytes; }
std::string_view name_of(DType dtype) {
  return kDTypeRows.at(static_cast<std::size_t>(dtype)).name;
}
std::string_view name_of(ReduceOp op) { return kReduceOpNames.at(static_cast<std::size_t>(op)); }

bool is_float(DType dtype) { return dtype <= DType::kBF16; }
bool is_complex(DType dtype) { return dtype >= DType::kC64; }

bool supports(ReduceOp op, DType dtype) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kProd:
      return true;
    case ReduceOp::kAvg:
    case ReduceOp::kPremulSum:
      return is_float(dtype) || is_complex(dtype);
    case ReduceOp::kMin:
    case ReduceOp::kMax:
      return !is_complex(dtype);
    case ReduceOp::kBand:
    case ReduceOp::kBor:
    case ReduceOp::kBxor:
      return !is_float(dtype) && !is_complex(dtype);
  }
  return false;
}

}  // namespace treadle
