// How one element of each dtype is loaded, accumulated and stored, and what each operator does to
// two.
//
// Everything is branch-free or turns into blends, so that the loops over it vectorise; conversions
// are integer arithmetic, so that every instruction set gives the same bytes.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace treadle::element {

// Memory of any alignment that may alias anything.
template <typename T>
struct [[gnu::packed, gnu::may_alias]] Loose {
  T value;
};
template <typename T>
inline T load_at(const std::byte* base, std::size_t index) {
  return reinterpret_cast<const Loose<T>*>(base)[index].value;
}
template <typename T>
inline void store_at(std::byte* base, std::size_t index, T value) {
  reinterpret_cast<Loose<T>*>(base)[index].value = value;
}

// Every element type below has `load`, which gives what is accumulated, and `store`, which takes
// what settle() returns. 16-bit floats also have `narrow`, which takes any NaN.

// Plain: accumulates in its own type.
template <typename T>
struct Plain {
  using Acc = T;
  static constexpr std::size_t kBytes = sizeof(T);
  static Acc load(const std::byte* base, std::size_t i) { return load_at<T>(base, i); }
  static void store(std::byte* base, std::size_t i, Acc value) { store_at<T>(base, i, value); }
};

// Any byte but zero is true.
struct Bool {
  using Acc = std::uint8_t;
  static constexpr std::size_t kBytes = 1;
  static Acc load(const std::byte* base, std::size_t i) {
    return load_at<std::uint8_t>(base, i) != 0 ? 1 : 0;
  }
  static void store(std::byte* base, std::size_t i, Acc value) { store_at(base, i, value); }
};

inline float widen_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
// Written with a mask, because GCC computes either side of ?: only where it is needed, and then
// does not vectorise floating-point arithmetic that depends on a condition.
inline std::uint32_t choose(bool first, std::uint32_t a, std::uint32_t b) {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(first);
  return (a & mask) | (b & ~mask);
}

// To nearest even; of NaNs only the one that settle() gives.
inline std::uint32_t round_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
}
// NaN keeps its sign and the upper bits of its payload and becomes quiet.
inline std::uint16_t narrow_bf16(float value) {
  const std::uint32_t nan = (std::bit_cast<std::uint32_t>(value) >> 16) | 0x40U;
  return static_cast<std::uint16_t>(choose(value != value, nan, round_bf16(value)));
}

// IEEE half to single: normal numbers by an exponent shift, denormal ones by a subtraction of 0.5.
inline float widen_f16(std::uint16_t bits) {
  const std::uint32_t w = static_cast<std::uint32_t>(bits) << 16;
  const std::uint32_t sign = w & 0x80000000U;
  const std::uint32_t twice = w + w;
  const float normal = std::bit_cast<float>((twice >> 4) + (0xE0U << 23)) * 0x1.0p-112F;
  const float denormal = std::bit_cast<float>((twice >> 17) | (126U << 23)) - 0.5F;
  const std::uint32_t magnitude = choose(twice < (1U << 27), std::bit_cast<std::uint32_t>(denormal),
                                         std::bit_cast<std::uint32_t>(normal));
  return std::bit_cast<float>(sign | magnitude);
}
// Single to IEEE half, to nearest even: the addition of a suitably scaled bias rounds in the adder.
// NaN keeps its sign and the upper bits of its payload and becomes quiet, as in F16C.
inline std::uint16_t narrow_f16(float value) {
  const auto w = std::bit_cast<std::uint32_t>(value);
  float base = (std::bit_cast<float>(w & 0x7FFFFFFFU) * 0x1.0p+112F) * 0x1.0p-110F;
  const std::uint32_t twice = w + w;
  std::uint32_t bias = twice & 0xFF000000U;
  bias = bias < 0x71000000U ? 0x71000000U : bias;
  base = std::bit_cast<float>((bias >> 1) + 0x07800000U) + base;
  const auto bits = std::bit_cast<std::uint32_t>(base);
  const std::uint32_t number = ((bits >> 13) & 0x7C00U) + (bits & 0x0FFFU);
  const std::uint32_t nan = 0x7E00U | ((w >> 13) & 0x03FFU);
  return static_cast<std::uint16_t>(((w & 0x80000000U) >> 16) |
                                    choose(twice > 0xFF000000U, nan, number));
}

struct BF16 {
  using Acc = float;
  static constexpr std::size_t kBytes = 2;
  static Acc load(const std::byte* base, std::size_t i) {
    return widen_bf16(load_at<std::uint16_t>(base, i));
  }
  static void store(std::byte* base, std::size_t i, Acc value) {
    store_at(base, i, static_cast<std::uint16_t>(round_bf16(value)));
  }
  static void narrow(std::byte* base, std::size_t i, float value) {
    store_at(base, i, narrow_bf16(value));
  }
};
struct F16 {
  using Acc = float;
  static constexpr std::size_t kBytes = 2;
  static Acc load(const std::byte* base, std::size_t i) {
    return widen_f16(load_at<std::uint16_t>(base, i));
  }
  static void store(std::byte* base, std::size_t i, Acc value) { narrow(base, i, value); }
  static void narrow(std::byte* base, std::size_t i, float value) {
    store_at(base, i, narrow_f16(value));
  }
};

template <typename T>
struct Complex {
  T re;
  T im;
};
template <typename T>
struct ComplexOf {
  using Acc = Complex<T>;
  static constexpr std::size_t kBytes = 2 * sizeof(T);
  static Acc load(const std::byte* base, std::size_t i) {
    return {load_at<T>(base, 2 * i), load_at<T>(base, 2 * i + 1)};
  }
  static void store(std::byte* base, std::size_t i, Acc value) {
    store_at(base, 2 * i, value.re);
    store_at(base, 2 * i + 1, value.im);
  }
};

// Which NaN an addition of two returns depends on the order of its operands, which compilers
// choose, and what inf - inf gives on the processor. A result that is NaN is therefore always this
// one.
template <typename T>
inline T settle(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return value == value ? value : std::numeric_limits<T>::quiet_NaN();
  } else {
    return value;
  }
}
template <typename T>
inline Complex<T> settle(Complex<T> value) {
  return {settle(value.re), settle(value.im)};
}

// ---- operators ----

template <typename T>
using BitsOf = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

template <typename T>
inline T wrap(T a, T b, auto op) {
  if constexpr (std::is_integral_v<T> && sizeof(T) < 4) {
    return static_cast<T>(op(static_cast<std::uint32_t>(a), static_cast<std::uint32_t>(b)));
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(op(static_cast<U>(a), static_cast<U>(b)));
  } else {
    return op(a, b);
  }
}

struct Sum {
  template <typename T>
  static T apply(T a, T b) {
    return wrap(a, b, [](auto x, auto y) { return x + y; });
  }
};
struct Prod {
  template <typename T>
  static T apply(T a, T b) {
    return wrap(a, b, [](auto x, auto y) { return x * y; });
  }
  // The subtraction is an addition of the opposite, because GCC 12 makes of adjacent differences
  // and sums of products one fused instruction, even where -ffp-contract=off forbids it.
  template <typename T>
  static Complex<T> apply(Complex<T> a, Complex<T> b) {
    constexpr BitsOf<T> kSign = BitsOf<T>{1} << (8 * sizeof(T) - 1);
    const T minus = std::bit_cast<T>(std::bit_cast<BitsOf<T>>(a.im * b.im) ^ kSign);
    return {a.re * b.re + minus, a.re * b.im + a.im * b.re};
  }
};

// Equal values have equal bits but for the zeros: "and" of the bits prefers +0, "or" prefers -0.
// A comparison with NaN is false, so that b is taken if it is NaN; a needs a look of its own.
struct Max {
  template <typename T>
  static T apply(T a, T b) {
    const T larger = a > b ? a : b;
    if constexpr (std::is_integral_v<T>) {
      return larger;
    } else {
      using B = BitsOf<T>;
      const T both = std::bit_cast<T>(std::bit_cast<B>(a) & std::bit_cast<B>(b));
      return a == b ? both : (a != a ? a : larger);
    }
  }
};
struct Min {
  template <typename T>
  static T apply(T a, T b) {
    const T smaller = a < b ? a : b;
    if constexpr (std::is_integral_v<T>) {
      return smaller;
    } else {
      using B = BitsOf<T>;
      const T both = std::bit_cast<T>(std::bit_cast<B>(a) | std::bit_cast<B>(b));
      return a == b ? both : (a != a ? a : smaller);
    }
  }
};
struct Band {
  template <typename T>
  static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct Bor {
  template <typename T>
  static T apply(T a, T b) {
    return static_cast<T>(a | b);
  }
};
struct Bxor {
  template <typename T>
  static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};

}  // namespace treadle::element
