#include "transport/stores/tcp_store_protocol.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace treadle {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

ConstBytes body_of(const std::vector<std::byte>& frame) { return ConstBytes(frame).subspan(4); }

const StoreRequest kRequest{StoreAction::kSet, 258, "ab", "c"};
const StoreReply kReply{StoreStatus::kRefused, "no"};

TEST(TcpStoreProtocolTest, RoundTrips) {
  EXPECT_EQ(decode_store_request(body_of(store_frame(kRequest))), kRequest);
  EXPECT_EQ(decode_store_reply(body_of(store_frame(kReply))), kReply);
}

// Written out, so that ranks of different versions still understand each other.
TEST(TcpStoreProtocolTest, BytesAreFixed) {
  EXPECT_EQ(store_frame(kRequest), bytes_of({20, 0, 0, 0, 0x01, 0x57, 0xe1, 0x7d, 1, 2, 1, 0,
                                             0,  2, 0, 0, 0,    'a',  'b',  1,    0, 0, 0, 'c'}));
  EXPECT_EQ(store_frame(kReply), bytes_of({7, 0, 0, 0, 2, 2, 0, 0, 0, 'n', 'o'}));
}

TEST(TcpStoreProtocolTest, EveryTruncationIsCorrupt) {
  const auto request = store_frame(kRequest);
  const auto reply = store_frame(kReply);
  for (std::size_t left = 0; left + 4 < request.size(); ++left) {
    EXPECT_THROW(decode_store_request(body_of(request).first(left)), Error) << left;
  }
  for (std::size_t left = 0; left + 4 < reply.size(); ++left) {
    EXPECT_THROW(decode_store_reply(body_of(reply).first(left)), Error) << left;
  }
}

TEST(TcpStoreProtocolTest, OtherFormatsActionsAndEndsAreCorrupt) {
  for (const std::size_t at : {0, 3, 4}) {
    auto frame = store_frame(kRequest);
    frame[4 + at] ^= std::byte{0x40};
    EXPECT_THROW(decode_store_request(body_of(frame)), Error) << at;
  }
  auto longer = store_frame(kRequest);
  longer.push_back(std::byte{0});
  EXPECT_THROW(decode_store_request(body_of(longer)), Error);
  auto status = store_frame(kReply);
  status[4] = std::byte{3};
  EXPECT_THROW(decode_store_reply(body_of(status)), Error);
}

TEST(TcpStoreProtocolTest, OversizedFieldsAreCorrupt) {
  const StoreRequest key{StoreAction::kGet, 0, std::string(kMaxStoreKeyBytes + 1, 'k'), ""};
  const StoreRequest value{StoreAction::kSet, 0, "k", std::string(kMaxStoreValueBytes + 1, 'v')};
  EXPECT_THROW(decode_store_request(body_of(store_frame(key))), Error);
  EXPECT_THROW(decode_store_request(body_of(store_frame(value))), Error);
}

TEST(StoreFrameReaderTest, CutsWhateverThePiecesAre) {
  auto stream = store_frame(kRequest);
  const auto second = store_frame(kReply);
  stream.insert(stream.end(), second.begin(), second.end());
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    StoreFrameReader reader;
    std::vector<std::vector<std::byte>> bodies;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.append(ConstBytes(stream).subspan(at, std::min(piece, stream.size() - at)));
      while (auto body = reader.next()) bodies.push_back(std::move(*body));
    }
    ASSERT_EQ(bodies.size(), 2u) << piece;
    EXPECT_EQ(decode_store_request(bodies[0]), kRequest);
    EXPECT_EQ(decode_store_reply(bodies[1]), kReply);
    EXPECT_EQ(reader.held_bytes(), 0u);
  }
}

TEST(StoreFrameReaderTest, AnOversizedLengthIsCorrupt) {
  StoreFrameReader reader;
  reader.append(bytes_of({0xff, 0xff, 0xff, 0x7f}));
  EXPECT_THROW(reader.next(), Error);
}

}  // namespace
}  // namespace treadle
