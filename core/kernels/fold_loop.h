// The loops of the folds, written once and compiled once per instruction set.
//
// A loop is a type with an always-inline `run`; it has no target attribute of its own. An
// instruction set is a type `Isa` whose `run<Loop>` carries the attribute and has the loop inlined
// into it, so the compiler vectorises each loop for it and no wide instruction gets into code that
// others share. It also converts halves, by `widen_f16` and `narrow_f16`. `Isa` must be local to
// its source file (anonymous namespace).
#pragma once
#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "core/kernels/element.h"
#include "core/kernels/reduce.h"

// The output of a loop is one of its inputs or apart from them, never shifted against one, so no
// iteration reads what another one wrote.
#if defined(__clang__)
#define TREADLE_INDEPENDENT_ITERATIONS _Pragma("clang loop vectorize(assume_safety)")
#else
#define TREADLE_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#endif

namespace treadle::fold_loop {

using namespace element;

template <typename Type>
using Acc = typename Type::Acc;

// Partial results of longer folds: enough to make the calls between the loops cheap, and few enough
// that all inputs are being fetched from memory at once. (With 4 KiB, four inputs beyond the caches
// were read at two thirds of the speed.)
inline constexpr std::size_t kPartialBytes = 1024;
template <typename Type>
inline constexpr std::size_t kBlockElems = kPartialBytes / sizeof(Acc<Type>);

// How an accumulator lies in memory between two loops.
template <typename T>
struct Partial {
  using Type = Plain<T>;
};
template <typename T>
struct Partial<Complex<T>> {
  using Type = ComplexOf<T>;
};

// to = from op in. The first loop of a fold has an input as `from`, later ones the partial result;
// the last one writes elements.
template <typename Type, typename Op, bool kScaled, bool kFirst, bool kLast>
struct Combine {
  using Between = typename Partial<Acc<Type>>::Type;
  using From = std::conditional_t<kFirst, Type, Between>;
  using To = std::conditional_t<kLast, Type, Between>;

  [[gnu::always_inline]] static void run(std::byte* to, const std::byte* from, const std::byte* in,
                                         std::size_t elems, Scale scale) {
    TREADLE_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) {
      Acc<Type> a = From::load(from, i);
      Acc<Type> b = Type::load(in, i);
      if constexpr (kScaled) {
        const auto factor = static_cast<Acc<Type>>(scale.before);
        if constexpr (kFirst) a *= factor;
        b *= factor;
      }
      a = Op::apply(a, b);
      if constexpr (kScaled && kLast) a /= static_cast<Acc<Type>>(scale.divisor);
      if constexpr (kLast) a = settle(a);
      To::store(to, i, a);
    }
  }
};

// A fold of one input: only its scale, and true is 1.
template <typename Type, bool kScaled>
struct Rescale {
  [[gnu::always_inline]] static void run(std::byte* to, const std::byte* from, std::size_t elems,
                                         Scale scale) {
    TREADLE_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) {
      Acc<Type> a = Type::load(from, i);
      if constexpr (kScaled) {
        a *= static_cast<Acc<Type>>(scale.before);
        a /= static_cast<Acc<Type>>(scale.divisor);
        a = settle(a);
      }
      Type::store(to, i, a);
    }
  }
};

template <typename Type>
struct Widen {
  [[gnu::always_inline]] static void run(const std::byte* in, float* out, std::size_t elems) {
    TREADLE_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) out[i] = Type::load(in, i);
  }
};

template <typename Type>
struct Narrow {
  [[gnu::always_inline]] static void run(const float* in, std::byte* out, std::size_t elems) {
    TREADLE_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) Type::narrow(out, i, in[i]);
  }
};

template <typename Isa, typename Type, bool kScaled>
void fold_one(std::byte* out, const std::byte* in, std::size_t elems, Scale scale) {
  if constexpr (std::is_same_v<Type, Bool> || kScaled) {
    const bool changes = scale.before != 1.0 || scale.divisor != 1.0;
    if (!kScaled || changes) {
      return Isa::template run<Rescale<Type, kScaled>>(out, in, elems, scale);
    }
  }
  if (out != in && elems != 0) std::memmove(out, in, elems * Type::kBytes);
}

// Integers need neither a scale nor a last step of their own; for them all four are one loop.
template <typename Isa, typename Type, typename Op, bool kScaled>
struct Links {
  static constexpr bool kAlike = std::is_integral_v<Acc<Type>> && !std::is_same_v<Type, Bool>;
  template <bool kFirst, bool kLast>
  using Link = Combine<Type, Op, kScaled, kFirst || kAlike, kLast || kAlike>;
  template <bool kFirst, bool kLast, typename... Args>
  static void link(Args... args) {
    Isa::template run<Link<kFirst, kLast>>(args...);
  }
};

template <typename Isa, typename Type, typename Op, bool kScaled>
void fold(std::byte* out, const std::byte* const* in, int inputs, std::size_t elems, Scale scale) {
  using Chain = Links<Isa, Type, Op, kScaled>;
  if (inputs == 1) return fold_one<Isa, Type, kScaled>(out, in[0], elems, scale);
  if (inputs == 2) {
    return Chain::template link<true, true>(out, in[0], in[1], elems, scale);
  }
  constexpr std::size_t kBlock = kBlockElems<Type>;
  alignas(64) std::array<std::byte, kPartialBytes> partial;
  std::byte* acc = partial.data();
  for (std::size_t begin = 0; begin < elems; begin += kBlock) {
    const std::size_t count = std::min(kBlock, elems - begin);
    const auto input = [&](int p) { return in[p] + begin * Type::kBytes; };
    Chain::template link<true, false>(acc, input(0), input(1), count, scale);
    for (int p = 2; p < inputs - 1; ++p) {
      Chain::template link<false, false>(acc, acc, input(p), count, scale);
    }
    std::byte* to = out + begin * Type::kBytes;
    Chain::template link<false, true>(to, acc, input(inputs - 1), count, scale);
  }
}

// Halves are converted block by block to fp32 in the first-level cache: with instructions of their
// own where there are any, and else in arithmetic that does not vectorise together with the fold.
template <typename Isa, typename Op, bool kScaled>
void fold_f16(std::byte* out, const std::byte* const* in, int inputs, std::size_t elems,
              Scale scale) {
  if (inputs == 1) return fold_one<Isa, F16, kScaled>(out, in[0], elems, scale);
  using Chain = Links<Isa, Plain<float>, Op, kScaled>;
  constexpr std::size_t kBlock = kBlockElems<F16>;
  alignas(64) std::array<float, kBlock> acc;
  alignas(64) std::array<float, kBlock> next;
  auto* a = reinterpret_cast<std::byte*>(acc.data());
  auto* b = reinterpret_cast<const std::byte*>(next.data());
  for (std::size_t begin = 0; begin < elems; begin += kBlock) {
    const std::size_t count = std::min(kBlock, elems - begin);
    Isa::widen_f16(in[0] + begin * F16::kBytes, acc.data(), count);
    for (int p = 1; p < inputs; ++p) {
      Isa::widen_f16(in[p] + begin * F16::kBytes, next.data(), count);
      const bool last = p == inputs - 1;
      if (p == 1 && last) {
        Chain::template link<true, true>(a, a, b, count, scale);
      } else if (p == 1) {
        Chain::template link<true, false>(a, a, b, count, scale);
      } else if (!last) {
        Chain::template link<false, false>(a, a, b, count, scale);
      } else {
        Chain::template link<false, true>(a, a, b, count, scale);
      }
    }
    Isa::narrow_f16(acc.data(), out + begin * F16::kBytes, count);
  }
}

}  // namespace treadle::fold_loop
