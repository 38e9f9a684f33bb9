// P-way folds: out[i] = in[0][i] op in[1][i] op ... op in[p-1][i], in that order, in one pass.
//
// 16-bit floats are widened to fp32 for the whole fold and rounded once, to nearest even. min and
// max propagate NaN and order -0 < +0. A result that is NaN is always the positive quiet NaN with
// no payload. bool: any byte but 0 is true; sum and max are "or", prod and min are "and"; results
// are 0 or 1. Integers wrap. A fold of one input without a scale copies it. Every version gives the
// same bytes. `out` may be any of the inputs, and may not overlap one otherwise; no alignment is
// needed.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "core/dtype.h"

namespace treadle {

// Applied in the accumulation type; both are 1 unless asked for, and then cost nothing.
struct Scale {
  double before = 1.0;   // multiplies every input (premul_sum)
  double divisor = 1.0;  // divides the result (avg)
};

using FoldFunction = void (*)(std::byte* out, const std::byte* const* in, int inputs,
                              std::size_t elems, Scale scale);

struct FoldVersion {
  std::string_view name;  // "avx512", "avx2", "portable"
  bool (*runs_here)();
  FoldFunction (*fold)(DType, ReduceOp);  // null where supports(op, dtype) is false
};

std::span<const FoldVersion> fold_versions();  // fastest first

// The first version that runs here, or the one named; throws std::invalid_argument if that does not
// run here or does not exist. `wanted` is "auto" or a name.
const FoldVersion& choose_fold(std::string_view wanted);

// Conversions for algorithms that carry 16-bit partials as fp32. kF16 and kBF16 only. Narrowing
// rounds to nearest even and keeps a NaN's sign and upper payload bits, made quiet. The fastest
// version that runs here does it; all give the same bytes. `in` and `out` may not overlap.
void widen_to_f32(DType from, const std::byte* in, float* out, std::size_t elems);
void narrow_from_f32(DType to, const float* in, std::byte* out, std::size_t elems);

}  // namespace treadle
