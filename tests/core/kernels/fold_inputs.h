// Inputs that reach every corner of a dtype, in buffers whose neighbours are watched.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/reduce.h"

namespace treadle {

inline const std::vector<DType>& all_dtypes() {
  static const std::vector<DType> kAll = [] {
    std::vector<DType> all;
    for (int i = 0; i < kDTypes; ++i) all.push_back(static_cast<DType>(i));
    return all;
  }();
  return kAll;
}

inline std::vector<ReduceOp> all_ops() {
  std::vector<ReduceOp> all;
  for (int i = 0; i < kReduceOps; ++i) all.push_back(static_cast<ReduceOp>(i));
  return all;
}

inline std::vector<ReduceOp> ops_of(DType dtype) {
  std::vector<ReduceOp> ops = all_ops();
  std::erase_if(ops, [&](ReduceOp op) { return !supports(op, dtype); });
  return ops;
}

inline std::string dtype_name(const testing::TestParamInfo<DType>& tested) {
  return std::string(name_of(tested.param));
}

// `elems` elements at `offset` bytes from an aligned address, between guard bytes.
class GuardedBuffer {
 public:
  GuardedBuffer(std::size_t bytes, std::size_t offset)
      : bytes_(bytes),
        front_(kGuardBytes + offset),
        memory_(front_ + bytes + kGuardBytes, kGuard) {}

  std::byte* data() { return memory_.data() + front_; }
  const std::byte* data() const { return memory_.data() + front_; }
  std::vector<std::byte> content() const { return {data(), data() + bytes_}; }

  bool guards_are_untouched() const {
    const auto is_guard = [](std::byte b) { return b == kGuard; };
    return std::all_of(memory_.begin(), memory_.begin() + static_cast<std::ptrdiff_t>(front_),
                       is_guard) &&
           std::all_of(memory_.end() - kGuardBytes, memory_.end(), is_guard);
  }

 private:
  static constexpr std::size_t kGuardBytes = 64;
  static constexpr std::byte kGuard{0xA5};

  std::size_t bytes_;
  std::size_t front_;
  std::vector<std::byte> memory_;
};

template <typename T>
T float_value(std::mt19937& random) {
  using Limits = std::numeric_limits<T>;
  const T specials[] = {0,
                        -T{0},
                        1,
                        -1,
                        Limits::infinity(),
                        -Limits::infinity(),
                        Limits::quiet_NaN(),
                        -Limits::quiet_NaN(),
                        Limits::signaling_NaN(),
                        Limits::denorm_min(),
                        -Limits::denorm_min(),
                        Limits::min(),
                        Limits::max(),
                        Limits::lowest()};
  const auto draw = random();
  if (draw % 8 == 0) return specials[(draw >> 8) % std::size(specials)];
  return static_cast<T>(static_cast<std::int32_t>(random())) * static_cast<T>(0x1.0p-28);
}

// 16-bit floats: ordinary values mixed with any bit pattern.
inline std::uint16_t bits16(DType dtype, std::mt19937& random) {
  const auto draw = static_cast<std::uint32_t>(random());
  if (draw % 4 == 0) return static_cast<std::uint16_t>(draw >> 16);
  const std::uint32_t sign = (draw >> 31) << 15;
  // Magnitudes from 2^-3 to almost 2^3.
  const std::uint32_t low = dtype == DType::kF16 ? 0x3000 : 0x3E00;
  const std::uint32_t high = dtype == DType::kF16 ? 0x4800 : 0x4100;
  return static_cast<std::uint16_t>(sign | (low + (draw >> 2) % (high - low)));
}

inline void fill(DType dtype, std::byte* out, std::size_t elems, std::mt19937& random) {
  const auto each = [&](std::size_t count, auto value) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto one = value();
      std::memcpy(out + i * sizeof one, &one, sizeof one);
    }
  };
  if (dtype == DType::kF32 || dtype == DType::kC64) {
    each(elems * size_of(dtype) / 4, [&] { return float_value<float>(random); });
  } else if (dtype == DType::kF64 || dtype == DType::kC128) {
    each(elems * size_of(dtype) / 8, [&] { return float_value<double>(random); });
  } else if (is_float(dtype)) {
    each(elems, [&] { return bits16(dtype, random); });
  } else if (dtype == DType::kBool) {  // also bytes that are neither 0 nor 1
    each(elems,
         [&] { return static_cast<std::uint8_t>(random() % 4 == 0 ? random() : random() & 1); });
  } else {
    each(elems * size_of(dtype), [&] { return static_cast<std::uint8_t>(random()); });
  }
}

// The inputs of one fold, each at its own misalignment.
struct Inputs {
  Inputs(DType dtype, int inputs, std::size_t elems, std::size_t offset, std::uint32_t seed) {
    std::mt19937 random(seed);
    for (int p = 0; p < inputs; ++p) {
      const std::size_t apart = offset == 0 ? 0 : offset + static_cast<std::size_t>(p);
      buffers.emplace_back(elems * size_of(dtype), apart);
      fill(dtype, buffers.back().data(), elems, random);
    }
    for (const auto& buffer : buffers) pointers.push_back(buffer.data());
  }
  int count() const { return static_cast<int>(buffers.size()); }

  std::vector<GuardedBuffer> buffers;
  std::vector<const std::byte*> pointers;
};

}  // namespace treadle
