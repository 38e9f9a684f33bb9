// The header's bytes are frozen: ranks of another build must read them.
#include "transport/message.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.h"

namespace treadle {
namespace {

using Raw = std::array<std::uint8_t, MessageHeader::kEncodedBytes>;

const MessageHeader kHeader = {.kind = MessageKind::kPointToPoint,
                               .size_bytes = 0x0000'2010,
                               .communicator = 0x1122334455667788,
                               .sequence = 0x0102030405060708,
                               .fingerprint = 0xF1F2F3F4F5F6F7F8,
                               .tag = -2,
                               .total_bytes = 0x0000'0001'0000'0000,
                               .offset_bytes = 0x0000'0000'8000'0000,
                               .consumed_bytes = 0x99,
                               .lane = 0x0A0B0C0D,
                               .step = 0x21222324,
                               .description = {0x3132333435363738, 1, 0x4142434445464748}};

// clang-format off
constexpr Raw kFrozen = {
    0xE1, 0x7D, 1, 5,                                // magic, format, kind
    0x10, 0x20, 0, 0,                                // size_bytes
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,  // communicator
    8, 7, 6, 5, 4, 3, 2, 1,                          // sequence
    0xF8, 0xF7, 0xF6, 0xF5, 0xF4, 0xF3, 0xF2, 0xF1,  // fingerprint
    0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,  // tag
    0, 0, 0, 0, 1, 0, 0, 0,                          // total_bytes
    0, 0, 0, 0x80, 0, 0, 0, 0,                       // offset_bytes
    0x99, 0, 0, 0, 0, 0, 0, 0,                       // consumed_bytes
    0x0D, 0x0C, 0x0B, 0x0A,                          // lane
    0x24, 0x23, 0x22, 0x21,                          // step
    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,  // description
    1, 0, 0, 0, 0, 0, 0, 0,
    0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
};
// clang-format on

Raw encoded(const MessageHeader& header) {
  Raw out;
  out.fill(0xCC);  // encode must write every byte
  encode(header, std::as_writable_bytes(std::span(out)));
  return out;
}
MessageHeader decoded(std::span<const std::uint8_t> raw) {
  return decode_message_header(std::as_bytes(raw));
}

void expect_corrupt(std::span<const std::uint8_t> raw, const char* what) {
  try {
    decoded(raw);
    ADD_FAILURE() << what << " was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorrupt) << error.what();
  }
}

TEST(MessageHeaderTest, BytesAreFrozen) {
  EXPECT_EQ(encoded(kHeader), kFrozen);
  EXPECT_EQ(decoded(kFrozen), kHeader);
}

TEST(MessageHeaderTest, EveryKindHasItsNumber) {
  EXPECT_EQ(static_cast<int>(MessageKind::kHello), 1);
  EXPECT_EQ(static_cast<int>(MessageKind::kHelloReply), 2);
  EXPECT_EQ(static_cast<int>(MessageKind::kHeartbeat), 3);
  EXPECT_EQ(static_cast<int>(MessageKind::kData), 4);
  EXPECT_EQ(static_cast<int>(MessageKind::kPointToPoint), 5);
  EXPECT_EQ(static_cast<int>(MessageKind::kAnnounce), 6);
  EXPECT_EQ(static_cast<int>(MessageKind::kGrant), 7);
  EXPECT_EQ(static_cast<int>(MessageKind::kConsumed), 8);
  EXPECT_EQ(static_cast<int>(MessageKind::kFailure), 9);
  EXPECT_EQ(static_cast<int>(MessageKind::kSegment), 10);
  EXPECT_EQ(static_cast<int>(MessageKind::kGoodbye), 11);
  EXPECT_EQ(kLastMessageKind, 11);
}

TEST(MessageHeaderTest, EveryKindSurvivesTheRoundTrip) {
  for (int kind = 1; kind <= kLastMessageKind; ++kind) {
    MessageHeader header = kHeader;
    header.kind = static_cast<MessageKind>(kind);
    EXPECT_EQ(decoded(encoded(header)), header) << "kind " << kind;
  }
}

TEST(MessageHeaderTest, ExtremesSurviveTheRoundTrip) {
  constexpr auto kMax64 = std::numeric_limits<std::uint64_t>::max();
  const MessageHeader largest = {.kind = MessageKind::kGoodbye,
                                 .size_bytes = MessageHeader::kMaxPayloadBytes,
                                 .communicator = kMax64,
                                 .sequence = kMax64,
                                 .fingerprint = kMax64,
                                 .tag = std::numeric_limits<std::int64_t>::min(),
                                 .total_bytes = kMax64,
                                 .offset_bytes = kMax64 - MessageHeader::kMaxPayloadBytes,
                                 .consumed_bytes = kMax64,
                                 .lane = std::numeric_limits<std::uint32_t>::max(),
                                 .step = std::numeric_limits<std::uint32_t>::max(),
                                 .description = {kMax64, kMax64, kMax64}};
  EXPECT_EQ(decoded(encoded(largest)), largest);
  EXPECT_EQ(decoded(encoded(MessageHeader{})), MessageHeader{});
}

TEST(MessageHeaderTest, EveryTruncationIsCorrupt) {
  for (std::size_t size = 0; size < kFrozen.size(); ++size) {
    expect_corrupt(std::span(kFrozen).first(size), "a truncated header");
  }
}

TEST(MessageHeaderTest, AnyOtherMagicFormatOrKindIsCorrupt) {
  for (const std::size_t at : {0, 1, 2}) {  // magic, format
    for (int bit = 0; bit < 8; ++bit) {
      Raw bad = kFrozen;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ (1 << bit));
      expect_corrupt(bad, "a flipped bit");
    }
  }
  for (const int kind : {0, kLastMessageKind + 1, 255}) {
    Raw bad = kFrozen;
    bad[3] = static_cast<std::uint8_t>(kind);
    expect_corrupt(bad, "an unknown kind");
  }
}

TEST(MessageHeaderTest, PayloadBeyondTheMaximumIsCorrupt) {
  MessageHeader header = kHeader;
  header.size_bytes = MessageHeader::kMaxPayloadBytes;
  EXPECT_EQ(decoded(encoded(header)), header);
  header.size_bytes = MessageHeader::kMaxPayloadBytes + 1;
  expect_corrupt(encoded(header), "a payload of one byte too many");
  header.size_bytes = std::numeric_limits<std::uint32_t>::max();
  expect_corrupt(encoded(header), "a payload of 4 GiB");
}

TEST(MessageHeaderTest, SegmentOutsideItsMessageIsCorrupt) {
  MessageHeader header = kHeader;
  header.total_bytes = 100;
  header.offset_bytes = 60;
  header.size_bytes = 40;
  EXPECT_EQ(decoded(encoded(header)), header);
  header.size_bytes = 41;
  expect_corrupt(encoded(header), "a segment that ends behind its message");
  header.offset_bytes = 101;
  header.size_bytes = 0;
  expect_corrupt(encoded(header), "a segment that starts behind its message");
  header.offset_bytes = std::numeric_limits<std::uint64_t>::max();
  header.size_bytes = 2;  // offset + size wraps around to 1
  expect_corrupt(encoded(header), "a segment whose end overflows");
}

}  // namespace
}  // namespace treadle
