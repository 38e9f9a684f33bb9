// What a fold must give, one element at a time and by other means than the kernels: 16-bit floats
// through ldexp and nearbyint, integers through 64-bit arithmetic.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/kernels/reduce.h"

namespace treadle::reference {

struct Format16 {
  int fraction_bits;
  int min_exponent;  // of normal numbers
  int max_exponent;
};
inline constexpr Format16 kHalf{10, -14, 15};
inline constexpr Format16 kBrain{7, -126, 127};

inline const Format16& format_of(DType dtype) { return dtype == DType::kF16 ? kHalf : kBrain; }

inline double widen(const Format16& f, std::uint16_t bits) {
  const int exponent_bits = 15 - f.fraction_bits;
  const int fraction = bits & ((1 << f.fraction_bits) - 1);
  const int exponent = (bits >> f.fraction_bits) & ((1 << exponent_bits) - 1);
  double magnitude = 0;
  if (exponent == (1 << exponent_bits) - 1) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, f.min_exponent - f.fraction_bits);
  } else {
    magnitude = std::ldexp((1 << f.fraction_bits) + fraction,
                           exponent - 1 + f.min_exponent - f.fraction_bits);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// To nearest, ties to even; not for NaN.
inline std::uint16_t narrow(const Format16& f, double value) {
  const unsigned sign = std::signbit(value) ? 0x8000U : 0U;
  const double magnitude = std::fabs(value);
  const unsigned infinity = 0x7FFFU >> f.fraction_bits << f.fraction_bits;
  if (std::isinf(magnitude)) return static_cast<std::uint16_t>(sign | infinity);
  if (magnitude == 0) return static_cast<std::uint16_t>(sign);
  const int exponent = std::max(std::ilogb(magnitude), f.min_exponent);
  // In units of the last place. Rounding up to the next power of two carries into the exponent
  // field, and beyond the largest exponent into infinity, by the addition below.
  const auto units =
      static_cast<unsigned>(std::nearbyint(std::ldexp(magnitude, f.fraction_bits - exponent)));
  if (exponent > f.max_exponent) return static_cast<std::uint16_t>(sign | infinity);
  const auto steps = static_cast<unsigned>(exponent - f.min_exponent);
  return static_cast<std::uint16_t>(sign | ((steps << f.fraction_bits) + units));
}

inline std::uint16_t quiet_nan(const Format16& f) {
  return static_cast<std::uint16_t>(0x7FFFU >> (f.fraction_bits - 1) << (f.fraction_bits - 1));
}

template <typename T>
T at(const std::byte* base, std::size_t i) {
  T value;
  std::memcpy(&value, base + i * sizeof(T), sizeof(T));
  return value;
}
template <typename T>
void put(std::byte* base, std::size_t i, T value) {
  std::memcpy(base + i * sizeof(T), &value, sizeof(T));
}

template <typename T>
T apply_float(ReduceOp op, T a, T b) {
  const bool min = op == ReduceOp::kMin;
  if (op == ReduceOp::kProd) return a * b;
  if (!min && op != ReduceOp::kMax) return a + b;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<T>::quiet_NaN();
  if (a == b) return std::signbit(a) == min ? a : b;
  return (a < b) == min ? a : b;
}

template <typename T>
T apply_integer(ReduceOp op, T a, T b) {
  const auto x = static_cast<std::uint64_t>(a);
  const auto y = static_cast<std::uint64_t>(b);
  switch (op) {
    case ReduceOp::kSum:
      return static_cast<T>(x + y);
    case ReduceOp::kProd:
      return static_cast<T>(x * y);
    case ReduceOp::kMin:
      return std::min(a, b);
    case ReduceOp::kMax:
      return std::max(a, b);
    case ReduceOp::kBand:
      return static_cast<T>(x & y);
    case ReduceOp::kBor:
      return static_cast<T>(x | y);
    default:
      return static_cast<T>(x ^ y);
  }
}

inline bool apply_bool(ReduceOp op, bool a, bool b) {
  if (op == ReduceOp::kBxor) return a != b;
  const bool is_or = op == ReduceOp::kSum || op == ReduceOp::kMax || op == ReduceOp::kBor;
  return is_or ? (a || b) : (a && b);
}

template <typename T>
T canonical(T value) {
  return std::isnan(value) ? std::numeric_limits<T>::quiet_NaN() : value;
}

// Element i of floating point folds, with `load` giving an input's value in the type T that sums.
template <typename T>
T fold_float(ReduceOp op, int inputs, Scale scale, auto load) {
  const auto scaled = [&](int p) { return load(p) * static_cast<T>(scale.before); };
  T sum = scaled(0);
  for (int p = 1; p < inputs; ++p) sum = apply_float<T>(op, sum, scaled(p));
  return canonical<T>(sum / static_cast<T>(scale.divisor));
}

template <typename T>
void fold_parts(ReduceOp op, std::byte* out, const std::vector<const std::byte*>& in,
                std::size_t parts, Scale scale) {
  const auto inputs = static_cast<int>(in.size());
  for (std::size_t i = 0; i < parts; ++i) {
    put(out, i, fold_float<T>(op, inputs, scale, [&](int p) { return at<T>(in[p], i); }));
  }
}

inline void fold_16(DType dtype, ReduceOp op, std::byte* out,
                    const std::vector<const std::byte*>& in, std::size_t elems, Scale scale) {
  const Format16& f = format_of(dtype);
  for (std::size_t i = 0; i < elems; ++i) {
    const float sum = fold_float<float>(op, static_cast<int>(in.size()), scale, [&](int p) {
      return static_cast<float>(widen(f, at<std::uint16_t>(in[p], i)));
    });
    put(out, i, std::isnan(sum) ? quiet_nan(f) : narrow(f, static_cast<double>(sum)));
  }
}

template <typename T>
void fold_products(std::byte* out, const std::vector<const std::byte*>& in, std::size_t elems) {
  for (std::size_t i = 0; i < elems; ++i) {
    T re = at<T>(in[0], 2 * i);
    T im = at<T>(in[0], 2 * i + 1);
    for (std::size_t p = 1; p < in.size(); ++p) {
      const T x = at<T>(in[p], 2 * i);
      const T y = at<T>(in[p], 2 * i + 1);
      const T next = re * x - im * y;
      im = re * y + im * x;
      re = next;
    }
    put(out, 2 * i, canonical(re));
    put(out, 2 * i + 1, canonical(im));
  }
}

template <typename T>
void fold_integers(ReduceOp op, std::byte* out, const std::vector<const std::byte*>& in,
                   std::size_t elems) {
  for (std::size_t i = 0; i < elems; ++i) {
    T sum = at<T>(in[0], i);
    for (std::size_t p = 1; p < in.size(); ++p) sum = apply_integer<T>(op, sum, at<T>(in[p], i));
    put(out, i, sum);
  }
}

inline void fold_bools(ReduceOp op, std::byte* out, const std::vector<const std::byte*>& in,
                       std::size_t elems) {
  for (std::size_t i = 0; i < elems; ++i) {
    bool sum = in[0][i] != std::byte{0};
    for (std::size_t p = 1; p < in.size(); ++p) sum = apply_bool(op, sum, in[p][i] != std::byte{0});
    out[i] = sum ? std::byte{1} : std::byte{0};
  }
}

// The whole fold of at least two inputs; one input is a copy, which is the tests' own business.
inline std::vector<std::byte> fold(DType dtype, ReduceOp op,
                                   const std::vector<const std::byte*>& in, std::size_t elems,
                                   Scale scale) {
  std::vector<std::byte> result(elems * size_of(dtype));
  std::byte* out = result.data();
  const bool product = op == ReduceOp::kProd;
  switch (dtype) {
    case DType::kF64:
      fold_parts<double>(op, out, in, elems, scale);
      break;
    case DType::kF32:
      fold_parts<float>(op, out, in, elems, scale);
      break;
    case DType::kF16:
    case DType::kBF16:
      fold_16(dtype, op, out, in, elems, scale);
      break;
    case DType::kI64:
      fold_integers<std::int64_t>(op, out, in, elems);
      break;
    case DType::kI32:
      fold_integers<std::int32_t>(op, out, in, elems);
      break;
    case DType::kI16:
      fold_integers<std::int16_t>(op, out, in, elems);
      break;
    case DType::kI8:
      fold_integers<std::int8_t>(op, out, in, elems);
      break;
    case DType::kU8:
      fold_integers<std::uint8_t>(op, out, in, elems);
      break;
    case DType::kBool:
      fold_bools(op, out, in, elems);
      break;
    case DType::kC64:
      product ? fold_products<float>(out, in, elems)
              : fold_parts<float>(op, out, in, 2 * elems, scale);
      break;
    case DType::kC128:
      product ? fold_products<double>(out, in, elems)
              : fold_parts<double>(op, out, in, 2 * elems, scale);
      break;
  }
  return result;
}

}  // namespace treadle::reference
