// What each version of the reduce kernels provides; reduce.cc chooses among them.
#pragma once
#include <cstddef>
#include <span>

#include "core/kernels/reduce.h"

namespace treadle {

struct Conversions {
  void (*widen)(const std::byte* in, float* out, std::size_t elems);
  void (*narrow)(const float* in, std::byte* out, std::size_t elems);
};

// One row per version, in the order of fold_versions(). `conversions` takes kF16 or kBF16.
struct ReduceVersion {
  FoldVersion fold;
  Conversions (*conversions)(DType);
};
std::span<const ReduceVersion> reduce_versions();

FoldFunction fold_portable(DType dtype, ReduceOp op);
Conversions conversions_portable(DType dtype);

#if defined(__x86_64__)
bool avx2_runs_here();  // with F16C
FoldFunction fold_avx2(DType dtype, ReduceOp op);
Conversions conversions_avx2(DType dtype);

bool avx512_runs_here();  // F, BW, DQ and VL
FoldFunction fold_avx512(DType dtype, ReduceOp op);
Conversions conversions_avx512(DType dtype);
#endif

}  // namespace treadle
