#include "bench/treadle-perf/buffers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace treadle {
namespace {

constexpr std::size_t kBudgetBytes = 64 << 20;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kLine = 64;
constexpr int kPoison = 0xA5;

std::size_t round_up(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

}  // namespace

Buffers::Buffers(const MeasuredOperation& operation, const PerfOptions& options, const Shape& shape)
    : operation_(operation),
      shape_(shape),
      in_place_(options.in_place || operation.in_place == InPlace::kInherently),
      pattern_{.dtype = options.dtype,
               .op = operation.folds ? options.op : ReduceOp::kSum,
               .ranks = shape.ranks,
               .elems = std::min(kPeriodElems, shape.block_bytes / size_of(options.dtype))} {
  const auto bytes = [&](int blocks) {
    return static_cast<std::size_t>(blocks) * shape.block_bytes;
  };
  in_bytes_ = bytes(operation.in_blocks(shape.rank, shape.ranks));
  out_bytes_ = bytes(operation.out_blocks(shape.rank, shape.ranks));
  const auto stride = [&](std::size_t in, std::size_t out) {
    return in_place_ ? round_up(std::max(in, out)) : round_up(in) + round_up(out);
  };
  stride_ = stride(in_bytes_, out_bytes_);
  // Rank 0, as the root, has the largest buffers; all ranks make as many copies as it can.
  const std::size_t largest = stride(bytes(operation.in_blocks(0, shape.ranks)),
                                     bytes(operation.out_blocks(0, shape.ranks)));
  const std::size_t fitting = kBudgetBytes / std::max(largest, kLine);
  const std::size_t fewest = largest > kBudgetBytes ? 1 : 2;
  copies_ = static_cast<int>(
      std::min(std::max(fitting, fewest), static_cast<std::size_t>(shape.most_copies)));

  const std::size_t needed = stride_ * static_cast<std::size_t>(copies_);
  std::size_t room = needed + kPage;
  memory_ = std::make_unique_for_overwrite<std::byte[]>(room);
  void* start = memory_.get();
  first_ = static_cast<std::byte*>(std::align(kPage, needed, start, room));
}

Bytes Buffers::region(int copy) const {
  return {first_ + stride_ * static_cast<std::size_t>(copy), stride_};
}

Bytes Buffers::writable_in(int copy) const {
  const std::size_t mine = in_place_ && operation_.in_place == InPlace::kInInOut
                               ? static_cast<std::size_t>(shape_.rank) * shape_.block_bytes
                               : 0;
  return region(copy).subspan(mine, in_bytes_);
}

ConstBytes Buffers::in(int copy) const { return writable_in(copy); }

Bytes Buffers::out(int copy) const {
  if (!in_place_) return region(copy).subspan(round_up(in_bytes_), out_bytes_);
  const std::size_t mine = operation_.in_place == InPlace::kOutInIn
                               ? static_cast<std::size_t>(shape_.rank) * shape_.block_bytes
                               : 0;
  return region(copy).subspan(mine, out_bytes_);
}

void Buffers::prepare() {
  for (int copy = 0; copy < copies_; ++copy) {
    if (const Bytes outputs = out(copy); !outputs.empty()) {
      std::memset(outputs.data(), kPoison, outputs.size());
    }
    const Bytes inputs = writable_in(copy);
    const int blocks = operation_.in_blocks(shape_.rank, shape_.ranks);
    for (int block = 0; block < blocks; ++block) {
      const auto offset = static_cast<std::size_t>(block) * shape_.block_bytes;
      fill(inputs.subspan(offset, shape_.block_bytes),
           pattern_.input({shape_.rank, block}, static_cast<std::size_t>(copy)));
    }
  }
}

std::optional<std::string> Buffers::complaint(int used) const {
  if (shape_.block_bytes == 0) return std::nullopt;
  const int blocks = operation_.out_blocks(shape_.rank, shape_.ranks);
  for (int copy = 0; copy < used; ++copy) {
    for (int block = 0; block < blocks; ++block) {
      const auto offset = static_cast<std::size_t>(block) * shape_.block_bytes;
      const auto period = pattern_.output(operation_.sources(shape_.rank, shape_.ranks, block),
                                          static_cast<std::size_t>(copy));
      const ConstBytes got = out(copy).subspan(offset, shape_.block_bytes);
      if (const auto wrong = first_difference(got, period)) {
        return fmt::format("byte {} of block {} is {:#04x}, expected {:#04x}", *wrong, block,
                           std::to_integer<int>(got[*wrong]),
                           std::to_integer<int>(period[*wrong % period.size()]));
      }
    }
  }
  return std::nullopt;
}

}  // namespace treadle
