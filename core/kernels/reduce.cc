#include "core/kernels/reduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "core/kernels/element.h"

namespace treadle {
namespace {

using namespace element;

// So many elements are accumulated at once: several independent vectors, so that the additions of
// one element do not wait for each other, and every input is read once.
constexpr std::size_t kBlock = 64;

// The one loop. It has no target attribute of its own and is inlined into functions that have one,
// so the compiler vectorises it once per instruction set and no wide instruction leaks into shared
// code.
template <typename Type, typename Op, bool kScaled>
[[gnu::always_inline]] inline void fold_loop(std::byte* out, const std::byte* const* in, int inputs,
                                             std::size_t elems, Scale scale) {
  using Acc = typename Type::Acc;
  constexpr bool kCanScale = std::is_floating_point_v<Acc>;
  std::array<Acc, kBlock> acc;
  for (std::size_t begin = 0; begin < elems; begin += kBlock) {
    const auto block = [&](std::size_t count) __attribute__((always_inline)) {
      for (int p = 0; p < inputs; ++p) {
        const std::byte* from = in[p] + begin * Type::kBytes;
        for (std::size_t i = 0; i < count; ++i) {
          Acc value = Type::load(from, i);
          if constexpr (kScaled && kCanScale) value *= static_cast<Acc>(scale.before);
          acc[i] = p == 0 ? value : Op::apply(acc[i], value);
        }
      }
      std::byte* to = out + begin * Type::kBytes;
      for (std::size_t i = 0; i < count; ++i) {
        if constexpr (kScaled && kCanScale) acc[i] /= static_cast<Acc>(scale.divisor);
        Type::store(to, i, acc[i]);
      }
    };
    if (elems - begin >= kBlock) {
      block(kBlock);
    } else {
      block(elems - begin);
    }
  }
}

struct Portable {
  template <typename Type, typename Op, bool kScaled>
  static void fold(std::byte* out, const std::byte* const* in, int inputs, std::size_t elems,
                   Scale scale) {
    fold_loop<Type, Op, kScaled>(out, in, inputs, elems, scale);
  }
};

#if defined(__x86_64__)
struct Avx2 {
  template <typename Type, typename Op, bool kScaled>
  [[gnu::target("avx2")]] static void fold(std::byte* out, const std::byte* const* in, int inputs,
                                           std::size_t elems, Scale scale) {
    fold_loop<Type, Op, kScaled>(out, in, inputs, elems, scale);
  }
};

struct Avx512 {
  template <typename Type, typename Op, bool kScaled>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]] static void fold(
      std::byte* out, const std::byte* const* in, int inputs, std::size_t elems, Scale scale) {
    fold_loop<Type, Op, kScaled>(out, in, inputs, elems, scale);
  }
};
#endif

// Complex sums and their scales work on the parts.
template <typename Isa, typename Type, std::size_t kParts, bool kScaled>
void sum_parts(std::byte* out, const std::byte* const* in, int inputs, std::size_t elems,
               Scale scale) {
  Isa::template fold<Type, Sum, kScaled>(out, in, inputs, elems * kParts, scale);
}

template <typename Isa, typename Type>
FoldFunction arithmetic(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return Isa::template fold<Type, Sum, false>;
    case ReduceOp::kAvg:
    case ReduceOp::kPremulSum:
      return Isa::template fold<Type, Sum, true>;
    case ReduceOp::kProd:
      return Isa::template fold<Type, Prod, false>;
    case ReduceOp::kMin:
      return Isa::template fold<Type, Min, false>;
    case ReduceOp::kMax:
      return Isa::template fold<Type, Max, false>;
    default:
      return nullptr;
  }
}

template <typename Isa, typename Type>
FoldFunction integer(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return Isa::template fold<Type, Sum, false>;
    case ReduceOp::kProd:
      return Isa::template fold<Type, Prod, false>;
    case ReduceOp::kMin:
      return Isa::template fold<Type, Min, false>;
    case ReduceOp::kMax:
      return Isa::template fold<Type, Max, false>;
    case ReduceOp::kBand:
      return Isa::template fold<Type, Band, false>;
    case ReduceOp::kBor:
      return Isa::template fold<Type, Bor, false>;
    case ReduceOp::kBxor:
      return Isa::template fold<Type, Bxor, false>;
    default:
      return nullptr;
  }
}

template <typename Isa>
FoldFunction boolean(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kMax:
    case ReduceOp::kBor:
      return Isa::template fold<Bool, Bor, false>;
    case ReduceOp::kProd:
    case ReduceOp::kMin:
    case ReduceOp::kBand:
      return Isa::template fold<Bool, Band, false>;
    case ReduceOp::kBxor:
      return Isa::template fold<Bool, Bxor, false>;
    default:
      return nullptr;
  }
}

template <typename Isa, typename Part>
FoldFunction complex_number(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return sum_parts<Isa, Plain<Part>, 2, false>;
    case ReduceOp::kAvg:
    case ReduceOp::kPremulSum:
      return sum_parts<Isa, Plain<Part>, 2, true>;
    case ReduceOp::kProd:
      return Isa::template fold<ComplexOf<Part>, Prod, false>;
    default:
      return nullptr;
  }
}

template <typename Isa>
FoldFunction pick(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kF64:
      return arithmetic<Isa, Plain<double>>(op);
    case DType::kF32:
      return arithmetic<Isa, Plain<float>>(op);
    case DType::kF16:
      return arithmetic<Isa, F16>(op);
    case DType::kBF16:
      return arithmetic<Isa, BF16>(op);
    case DType::kI64:
      return integer<Isa, Plain<std::int64_t>>(op);
    case DType::kI32:
      return integer<Isa, Plain<std::int32_t>>(op);
    case DType::kI16:
      return integer<Isa, Plain<std::int16_t>>(op);
    case DType::kI8:
      return integer<Isa, Plain<std::int8_t>>(op);
    case DType::kU8:
      return integer<Isa, Plain<std::uint8_t>>(op);
    case DType::kBool:
      return boolean<Isa>(op);
    case DType::kC64:
      return complex_number<Isa, float>(op);
    case DType::kC128:
      return complex_number<Isa, double>(op);
  }
  return nullptr;
}

constexpr std::array kVersions = {
#if defined(__x86_64__)
    FoldVersion{"avx512",
                [] {
                  return __builtin_cpu_supports("avx512f") != 0 &&
                         __builtin_cpu_supports("avx512bw") != 0 &&
                         __builtin_cpu_supports("avx512dq") != 0 &&
                         __builtin_cpu_supports("avx512vl") != 0;
                },
                pick<Avx512>},
    FoldVersion{"avx2", [] { return __builtin_cpu_supports("avx2") != 0; }, pick<Avx2>},
#endif
    FoldVersion{"portable", [] { return true; }, pick<Portable>},
};

}  // namespace

std::span<const FoldVersion> fold_versions() { return kVersions; }

const FoldVersion& choose_fold(std::string_view wanted) {
  std::string here;
  for (const FoldVersion& version : kVersions) {
    if (!version.runs_here()) continue;
    if (wanted == "auto" || wanted == version.name) return version;
    here += fmt::format("{}{}", here.empty() ? "" : ", ", version.name);
  }
  throw std::invalid_argument(
      fmt::format("kernels '{}' do not run on this machine; these do: auto, {}", wanted, here));
}

void widen_to_f32(DType from, const std::byte* in, float* out, std::size_t elems) {
  if (from == DType::kBF16) {
    for (std::size_t i = 0; i < elems; ++i) out[i] = BF16::load(in, i);
  } else {
    for (std::size_t i = 0; i < elems; ++i) out[i] = F16::load(in, i);
  }
}

void narrow_from_f32(DType to, const float* in, std::byte* out, std::size_t elems) {
  if (to == DType::kBF16) {
    for (std::size_t i = 0; i < elems; ++i) BF16::store(out, i, in[i]);
  } else {
    for (std::size_t i = 0; i < elems; ++i) F16::store(out, i, in[i]);
  }
}

}  // namespace treadle
