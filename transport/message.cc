#include "transport/message.h"

#include "core/error.h"
#include "core/wire.h"

namespace treadle {
namespace {
constexpr std::uint16_t kMagic = 0x7DE1;
constexpr std::uint8_t kFormat = 1;
}  // namespace

void encode(const MessageHeader& header, Bytes out) {
  WireWriter w(out);
  w.put(kMagic);
  w.put(kFormat);
  w.put(header.kind);
  w.put(header.size_bytes);
  w.put(header.communicator);
  w.put(header.sequence);
  w.put(header.fingerprint);
  w.put(header.tag);
  w.put(header.total_bytes);
  w.put(header.offset_bytes);
  w.put(header.consumed_bytes);
  w.put(header.lane);
  w.put(header.step);
  for (const std::uint64_t word : header.description) w.put(word);
}

MessageHeader decode_message_header(ConstBytes in) {
  WireReader r(in);
  if (const auto magic = r.get<std::uint16_t>(); magic != kMagic) {
    throw Error(ErrorCode::kCorrupt, "message header: magic {:#06x}, expected {:#06x}", magic,
                kMagic);
  }
  if (const auto format = r.get<std::uint8_t>(); format != kFormat) {
    throw Error(ErrorCode::kCorrupt, "message header: format {}, this build reads {}", format,
                kFormat);
  }
  const auto kind = r.get<std::uint8_t>();
  if (kind == 0 || kind > kLastMessageKind) {
    throw Error(ErrorCode::kCorrupt, "message header: kind {}, expected 1 to {}", kind,
                kLastMessageKind);
  }
  MessageHeader h;
  h.kind = static_cast<MessageKind>(kind);
  h.size_bytes = r.get<std::uint32_t>();
  h.communicator = r.get<std::uint64_t>();
  h.sequence = r.get<std::uint64_t>();
  h.fingerprint = r.get<std::uint64_t>();
  h.tag = r.get<std::int64_t>();
  h.total_bytes = r.get<std::uint64_t>();
  h.offset_bytes = r.get<std::uint64_t>();
  h.consumed_bytes = r.get<std::uint64_t>();
  h.lane = r.get<std::uint32_t>();
  h.step = r.get<std::uint32_t>();
  for (std::uint64_t& word : h.description) word = r.get<std::uint64_t>();
  if (h.size_bytes > MessageHeader::kMaxPayloadBytes) {
    throw Error(ErrorCode::kCorrupt, "message header: {} payload bytes, at most {}", h.size_bytes,
                MessageHeader::kMaxPayloadBytes);
  }
  if (h.offset_bytes > h.total_bytes || h.size_bytes > h.total_bytes - h.offset_bytes) {
    throw Error(ErrorCode::kCorrupt, "message header: segment {}+{} outside a message of {} bytes",
                h.offset_bytes, h.size_bytes, h.total_bytes);
  }
  return h;
}

}  // namespace treadle
