// The reduce kernels for what every processor of this architecture has.
#include "core/kernels/fold_table.h"
#include "core/kernels/reduce_versions.h"

namespace treadle {
namespace {

struct Portable {
  template <typename Loop, typename... Args>
  static void run(Args... args) {
    Loop::run(args...);
  }
  static void widen_f16(const std::byte* in, float* out, std::size_t elems) {
    fold_loop::Widen<element::F16>::run(in, out, elems);
  }
  static void narrow_f16(const float* in, std::byte* out, std::size_t elems) {
    fold_loop::Narrow<element::F16>::run(in, out, elems);
  }
};

constexpr Conversions kF16 = {Portable::widen_f16, Portable::narrow_f16};
constexpr Conversions kBF16 = {
    Portable::run<fold_loop::Widen<element::BF16>, const std::byte*, float*, std::size_t>,
    Portable::run<fold_loop::Narrow<element::BF16>, const float*, std::byte*, std::size_t>};

}  // namespace

FoldFunction fold_portable(DType dtype, ReduceOp op) {
  return fold_loop::fold_for<Portable>(dtype, op);
}
Conversions conversions_portable(DType dtype) { return dtype == DType::kF16 ? kF16 : kBF16; }

}  // namespace treadle
