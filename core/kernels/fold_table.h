// Which loop folds which dtype with which operator, for one instruction set.
#pragma once
#include "core/kernels/fold_loop.h"

namespace treadle::fold_loop {

// Complex sums and their scales work on the parts.
template <typename Isa, typename Part, bool kScaled>
void sum_parts(std::byte* out, const std::byte* const* in, int inputs, std::size_t elems,
               Scale scale) {
  fold<Isa, Plain<Part>, Sum, kScaled>(out, in, inputs, elems * 2, scale);
}

template <typename Isa, typename Type, typename Op, bool kScaled>
constexpr FoldFunction fold_of() {
  if constexpr (std::is_same_v<Type, F16>) {
    return fold_f16<Isa, Op, kScaled>;
  } else {
    return fold<Isa, Type, Op, kScaled>;
  }
}

template <typename Isa, typename Type>
FoldFunction fold_of_float(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return fold_of<Isa, Type, Sum, false>();
    case ReduceOp::kAvg:
    case ReduceOp::kPremulSum:
      return fold_of<Isa, Type, Sum, true>();
    case ReduceOp::kProd:
      return fold_of<Isa, Type, Prod, false>();
    case ReduceOp::kMin:
      return fold_of<Isa, Type, Min, false>();
    case ReduceOp::kMax:
      return fold_of<Isa, Type, Max, false>();
    default:
      return nullptr;
  }
}

template <typename Isa, typename Type>
FoldFunction fold_of_integer(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return fold<Isa, Type, Sum, false>;
    case ReduceOp::kProd:
      return fold<Isa, Type, Prod, false>;
    case ReduceOp::kMin:
      return fold<Isa, Type, Min, false>;
    case ReduceOp::kMax:
      return fold<Isa, Type, Max, false>;
    case ReduceOp::kBand:
      return fold<Isa, Type, Band, false>;
    case ReduceOp::kBor:
      return fold<Isa, Type, Bor, false>;
    case ReduceOp::kBxor:
      return fold<Isa, Type, Bxor, false>;
    default:
      return nullptr;
  }
}

template <typename Isa>
FoldFunction fold_of_bool(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kMax:
    case ReduceOp::kBor:
      return fold<Isa, Bool, Bor, false>;
    case ReduceOp::kProd:
    case ReduceOp::kMin:
    case ReduceOp::kBand:
      return fold<Isa, Bool, Band, false>;
    case ReduceOp::kBxor:
      return fold<Isa, Bool, Bxor, false>;
    default:
      return nullptr;
  }
}

template <typename Isa, typename Part>
FoldFunction fold_of_complex(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return sum_parts<Isa, Part, false>;
    case ReduceOp::kAvg:
    case ReduceOp::kPremulSum:
      return sum_parts<Isa, Part, true>;
    case ReduceOp::kProd:
      return fold<Isa, ComplexOf<Part>, Prod, false>;
    default:
      return nullptr;
  }
}

// Null where supports(op, dtype) is false.
template <typename Isa>
FoldFunction fold_for(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kF64:
      return fold_of_float<Isa, Plain<double>>(op);
    case DType::kF32:
      return fold_of_float<Isa, Plain<float>>(op);
    case DType::kF16:
      return fold_of_float<Isa, F16>(op);
    case DType::kBF16:
      return fold_of_float<Isa, BF16>(op);
    case DType::kI64:
      return fold_of_integer<Isa, Plain<std::int64_t>>(op);
    case DType::kI32:
      return fold_of_integer<Isa, Plain<std::int32_t>>(op);
    case DType::kI16:
      return fold_of_integer<Isa, Plain<std::int16_t>>(op);
    case DType::kI8:
      return fold_of_integer<Isa, Plain<std::int8_t>>(op);
    case DType::kU8:
      return fold_of_integer<Isa, Plain<std::uint8_t>>(op);
    case DType::kBool:
      return fold_of_bool<Isa>(op);
    case DType::kC64:
      return fold_of_complex<Isa, float>(op);
    case DType::kC128:
      return fold_of_complex<Isa, double>(op);
  }
  return nullptr;
}

}  // namespace treadle::fold_loop
