#include "bench/treadle-perf/pattern.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/kernels/reduce.h"

namespace treadle {
namespace {

template <typename T>
std::vector<std::byte> cast_to(const std::vector<float>& values, std::size_t parts = 1) {
  std::vector<T> cast(values.size() * parts);  // parts - 1 zeros follow each value
  for (std::size_t i = 0; i < values.size(); ++i) cast[i * parts] = static_cast<T>(values[i]);
  const auto bytes = std::as_bytes(std::span(cast));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> as_dtype(DType dtype, const std::vector<float>& values) {
  switch (dtype) {
    case DType::kF64:
      return cast_to<double>(values);
    case DType::kF32:
      return cast_to<float>(values);
    case DType::kF16:
    case DType::kBF16: {
      std::vector<std::byte> narrow(values.size() * size_of(dtype));
      narrow_from_f32(dtype, values.data(), narrow.data(), values.size());
      return narrow;
    }
    case DType::kI64:
      return cast_to<std::int64_t>(values);
    case DType::kI32:
      return cast_to<std::int32_t>(values);
    case DType::kI16:
      return cast_to<std::int16_t>(values);
    case DType::kI8:
      return cast_to<std::int8_t>(values);
    case DType::kU8:
    case DType::kBool:
      return cast_to<std::uint8_t>(values);
    case DType::kC64:
      return cast_to<float>(values, 2);
    case DType::kC128:
      return cast_to<double>(values, 2);
  }
  TREADLE_CHECK(false, "dtype {}", static_cast<int>(dtype));
  return {};
}

// Inputs are below this. Sums of all ranks' stay below 256, which bfloat16 still holds exactly;
// products of ones and twos are exact, too.
std::size_t values_below(DType dtype, ReduceOp op, int ranks) {
  if (dtype == DType::kBool) return 2;
  if (op == ReduceOp::kProd) return 2;
  return static_cast<std::size_t>(std::clamp(256 / ranks, 4, 128));
}

}  // namespace

std::vector<std::byte> Pattern::input(Source source, std::size_t copy) const {
  const std::size_t below = values_below(dtype, op, ranks);
  const std::size_t lowest = op == ReduceOp::kProd && dtype != DType::kBool ? 1 : 0;
  const std::size_t start = 101 * static_cast<std::size_t>(source.rank) +
                            17 * static_cast<std::size_t>(source.block) + 57 * copy;
  std::vector<float> values(elems);
  for (std::size_t i = 0; i < elems; ++i) {
    values[i] = static_cast<float>(lowest + (start + 37 * i) % below);
  }
  return as_dtype(dtype, values);
}

std::vector<std::byte> Pattern::output(std::span<const Source> sources, std::size_t copy) const {
  if (sources.size() == 1 && ranks > 1) return input(sources.front(), copy);
  std::vector<std::vector<std::byte>> inputs;
  std::vector<const std::byte*> pointers;
  for (const Source& source : sources) inputs.push_back(input(source, copy));
  for (const auto& one : inputs) pointers.push_back(one.data());
  const Scale scale{.before = op == ReduceOp::kPremulSum ? kPremulFactor : 1.0,
                    .divisor = op == ReduceOp::kAvg ? static_cast<double>(ranks) : 1.0};
  std::vector<std::byte> out(elems * size_of(dtype));
  choose_fold("portable")
      .fold(dtype, op)(out.data(), pointers.data(), static_cast<int>(inputs.size()), elems, scale);
  return out;
}

void fill(Bytes region, ConstBytes period) {
  if (region.empty()) return;
  std::size_t filled = std::min(region.size(), period.size());
  std::memcpy(region.data(), period.data(), filled);
  while (filled < region.size()) {
    const std::size_t more = std::min(filled, region.size() - filled);
    std::memcpy(region.data() + filled, region.data(), more);
    filled += more;
  }
}

std::optional<std::size_t> first_difference(ConstBytes region, ConstBytes period) {
  const std::size_t head = std::min(region.size(), period.size());
  const auto differs = [](ConstBytes a, ConstBytes b) {
    return std::ranges::mismatch(a, b).in1 - a.begin();
  };
  if (std::memcmp(region.data(), period.data(), head) != 0) {
    return static_cast<std::size_t>(differs(region.first(head), period.first(head)));
  }
  // What equals itself one period earlier, and began right, is right.
  const ConstBytes rest = region.subspan(head);
  if (rest.empty() || std::memcmp(rest.data(), region.data(), rest.size()) == 0) {
    return std::nullopt;
  }
  return head + static_cast<std::size_t>(differs(rest, region.first(rest.size())));
}

}  // namespace treadle
