// The 96 bytes in front of every segment of every message. Format 1, little-endian:
//
// clang-format off
//   u16    magic           0x7DE1
//   u8     format          1
//   u8     kind            MessageKind
//   u32    size_bytes      payload that follows this header, at most kMaxPayloadBytes
//   u64    communicator    hash of (group name, generation, ordered ranks); 0: the link itself
//   u64    sequence        which operation on the communicator, or which message of (source, tag)
//   u64    fingerprint     of the operation's description (contract 3)
//   i64    tag             point-to-point only
//   u64    total_bytes     payload of the whole message
//   u64    offset_bytes    where this segment's payload lies in the message
//   u64    consumed_bytes  eager payload of this communicator that the sender has matched so far
//   u32    lane            index of the plan instance within the operation
//   u32    step            round of the plan
//   u8[24] description     of the call as its sender made it, opaque here; else zero
// clang-format on
//
// (communicator, kind, sequence, lane, step, tag) names a message and offset_bytes a segment of it,
// so messages may arrive in any order. A reader rejects another magic, a newer format, an unknown
// kind, a payload beyond the maximum, and a segment that does not lie inside its message.
#pragma once
#include <array>
#include <compare>
#include <cstdint>

#include "core/bytes.h"

namespace treadle {

enum class MessageKind : std::uint8_t {
  kHello = 1,     // who is calling; first message of every connection
  kHelloReply,    // accepted, or why not
  kHeartbeat,     // alive; the payload lists operations that have been pending for a second
  kData,          // one step of a collective
  kPointToPoint,  // send/recv
  kAnnounce,      // a kData or kPointToPoint message waits at its sender for a grant
  kGrant,     // the receiver has room: send (sequence, lane, steps up to `step`) or (tag, sequence)
  kConsumed,  // only consumed_bytes matters
  kFailure,   // the communicator has failed; the payload says how
  kSegment,   // a shared-memory segment travels beside this message
  kGoodbye,   // orderly close; silence and end of file after it are no failure
};
inline constexpr std::uint8_t kLastMessageKind = 11;

struct MessageHeader {
  static constexpr std::size_t kEncodedBytes = 96;
  static constexpr std::uint32_t kMaxPayloadBytes = 512 * 1024;

  MessageKind kind = MessageKind::kHello;
  std::uint32_t size_bytes = 0;
  std::uint64_t communicator = 0;
  std::uint64_t sequence = 0;
  std::uint64_t fingerprint = 0;
  std::int64_t tag = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t consumed_bytes = 0;
  std::uint32_t lane = 0;
  std::uint32_t step = 0;
  std::array<std::uint64_t, 3> description = {};
  bool operator==(const MessageHeader&) const = default;
};

void encode(const MessageHeader& header, Bytes out);
MessageHeader decode_message_header(ConstBytes in);  // throws kCorrupt

}  // namespace treadle
