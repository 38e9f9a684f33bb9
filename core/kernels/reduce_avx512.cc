// The reduce kernels for AVX-512 F, BW, DQ and VL.
#include "core/kernels/fold_table.h"
#include "core/kernels/reduce_versions.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace treadle {
namespace {

// GCC 12 warns of an uninitialised value in its own header for the forms without a mask.
constexpr __mmask16 kAll = 0xFFFF;

struct Avx512 {
  template <typename Loop, typename... Args>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static void run(Args... args) {
    Loop::run(args...);
  }

  [[gnu::target("avx512f")]] static void widen_f16(const std::byte* in, float* out,
                                                   std::size_t elems) {
    std::size_t i = 0;
    for (; i + 16 <= elems; i += 16) {
      const auto* from = reinterpret_cast<const __m256i*>(in + i * 2);
      _mm512_storeu_ps(out + i, _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(from)));
    }
    for (; i < elems; ++i) out[i] = element::F16::load(in, i);
  }

  [[gnu::target("avx512f")]] static void narrow_f16(const float* in, std::byte* out,
                                                    std::size_t elems) {
    constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    std::size_t i = 0;
    for (; i + 16 <= elems; i += 16) {
      auto* to = reinterpret_cast<__m256i*>(out + i * 2);
      _mm256_storeu_si256(to, _mm512_maskz_cvtps_ph(kAll, _mm512_loadu_ps(in + i), kNearestEven));
    }
    for (; i < elems; ++i) element::F16::narrow(out, i, in[i]);
  }
};

constexpr Conversions kF16 = {Avx512::widen_f16, Avx512::narrow_f16};
constexpr Conversions kBF16 = {
    Avx512::run<fold_loop::Widen<element::BF16>, const std::byte*, float*, std::size_t>,
    Avx512::run<fold_loop::Narrow<element::BF16>, const float*, std::byte*, std::size_t>};

}  // namespace

bool avx512_runs_here() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
}
FoldFunction fold_avx512(DType dtype, ReduceOp op) {
  return fold_loop::fold_for<Avx512>(dtype, op);
}
Conversions conversions_avx512(DType dtype) { return dtype == DType::kF16 ? kF16 : kBF16; }

}  // namespace treadle
#endif
