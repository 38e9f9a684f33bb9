#include "core/kernels/reduce.h"

#include <fmt/format.h>

#include <array>
#include <stdexcept>
#include <string>

#include "core/error.h"
#include "core/kernels/reduce_versions.h"

namespace treadle {
namespace {

// To add a version: its source file, its lines in reduce_versions.h, and one row here. The tests
// read this table.
constexpr std::array kVersions = {
#if defined(__x86_64__)
    ReduceVersion{{"avx512", avx512_runs_here, fold_avx512}, conversions_avx512},
    ReduceVersion{{"avx2", avx2_runs_here, fold_avx2}, conversions_avx2},
#endif
    ReduceVersion{{"portable", [] { return true; }, fold_portable}, conversions_portable},
};

constexpr std::array kFolds = [] {
  std::array<FoldVersion, kVersions.size()> folds{};
  for (std::size_t i = 0; i < folds.size(); ++i) folds[i] = kVersions[i].fold;
  return folds;
}();

// All versions give the same bytes, so that nobody needs to choose.
Conversions fastest_conversions(DType dtype) {
  TREADLE_CHECK(dtype == DType::kF16 || dtype == DType::kBF16, "no conversion of {} to f32",
                name_of(dtype));
  for (const ReduceVersion& version : kVersions) {
    if (version.fold.runs_here()) return version.conversions(dtype);
  }
  return conversions_portable(dtype);
}

}  // namespace

std::span<const ReduceVersion> reduce_versions() { return kVersions; }
std::span<const FoldVersion> fold_versions() { return kFolds; }

const FoldVersion& choose_fold(std::string_view wanted) {
  std::string here;
  for (const FoldVersion& version : kFolds) {
    if (!version.runs_here()) continue;
    if (wanted == "auto" || wanted == version.name) return version;
    here += fmt::format(", {}", version.name);
  }
  throw std::invalid_argument(
      fmt::format("kernels '{}' do not run on this machine; these do: auto{}", wanted, here));
}

void widen_to_f32(DType from, const std::byte* in, float* out, std::size_t elems) {
  fastest_conversions(from).widen(in, out, elems);
}

void narrow_from_f32(DType to, const float* in, std::byte* out, std::size_t elems) {
  fastest_conversions(to).narrow(in, out, elems);
}

}  // namespace treadle
