// The reduce kernels for AVX2 and F16C.
#include "core/kernels/fold_table.h"
#include "core/kernels/reduce_versions.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

namespace treadle {
namespace {

struct Avx2 {
  template <typename Loop, typename... Args>
  [[gnu::target("avx2")]] static void run(Args... args) {
    Loop::run(args...);
  }

  [[gnu::target("avx2,f16c")]] static void widen_f16(const std::byte* in, float* out,
                                                     std::size_t elems) {
    std::size_t i = 0;
    for (; i + 8 <= elems; i += 8) {
      const auto* from = reinterpret_cast<const __m128i*>(in + i * 2);
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(from)));
    }
    for (; i < elems; ++i) out[i] = element::F16::load(in, i);
  }

  [[gnu::target("avx2,f16c")]] static void narrow_f16(const float* in, std::byte* out,
                                                      std::size_t elems) {
    constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    std::size_t i = 0;
    for (; i + 8 <= elems; i += 8) {
      auto* to = reinterpret_cast<__m128i*>(out + i * 2);
      _mm_storeu_si128(to, _mm256_cvtps_ph(_mm256_loadu_ps(in + i), kNearestEven));
    }
    for (; i < elems; ++i) element::F16::narrow(out, i, in[i]);
  }
};

constexpr Conversions kF16 = {Avx2::widen_f16, Avx2::narrow_f16};
constexpr Conversions kBF16 = {
    Avx2::run<fold_loop::Widen<element::BF16>, const std::byte*, float*, std::size_t>,
    Avx2::run<fold_loop::Narrow<element::BF16>, const float*, std::byte*, std::size_t>};

}  // namespace

bool avx2_runs_here() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  // Clang's __builtin_cpu_supports does not know F16C.
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") != 0;
}
FoldFunction fold_avx2(DType dtype, ReduceOp op) { return fold_loop::fold_for<Avx2>(dtype, op); }
Conversions conversions_avx2(DType dtype) { return dtype == DType::kF16 ? kF16 : kBF16; }

}  // namespace treadle
#endif
