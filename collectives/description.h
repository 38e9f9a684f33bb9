// What all ranks must agree on about one operation, and its 64-bit fingerprint (contract 3).
//
// The 24 bytes that travel in message headers, announcements and shared memory, little-endian:
//
//   u8  call          Call
//   u8  dtype         DType
//   u8  op            ReduceOp
//   u8  reserved      0
//   i32 root          rank in the communicator, -1 where there is none
//   u64 elems         per rank: the input's elements (all_gather: of one block, reduce_scatter and
//                     all_to_all: of one block)
//   u64 override      hash of the algorithm override, 0 if none
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "core/bytes.h"
#include "core/dtype.h"
#include "transport/message.h"

namespace treadle {

enum class Call : std::uint8_t {
  kAllReduce,
  kBroadcast,
  kAllGather,
  kReduceScatter,
  kReduce,
  kGather,
  kScatter,
  kAllToAll,
  kBarrier,
  kPointToPoint,
};
inline constexpr std::uint8_t kLastCall = 9;

struct Description {
  static constexpr std::size_t kEncodedBytes = 24;

  Call call = Call::kBarrier;
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;  // kSum where nothing is reduced
  std::int32_t root = -1;
  std::uint64_t elems = 0;
  std::uint64_t override_hash = 0;
  bool operator==(const Description&) const = default;

  std::uint64_t fingerprint() const;  // never 0
  std::string text() const;           // "all_reduce of 1024 x f32, sum"
};

std::array<std::byte, Description::kEncodedBytes> encode(const Description& description);
Description decode_description(ConstBytes in);  // throws kCorrupt

// The same bytes as they stand in a message header.
std::array<std::uint64_t, 3> header_words(const Description& description);
Description description_of(const MessageHeader& header);  // throws kCorrupt

}  // namespace treadle
