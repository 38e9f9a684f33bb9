// Bytes that make no sense, on a StreamConnection.
#include "tests/transport/played_stream.h"

namespace treadle {
namespace {

struct Change {
  std::string name;
  std::size_t at;
  std::vector<int> bytes;
};
std::string change_name(const testing::TestParamInfo<Change>& tested) { return tested.param.name; }

class HostileStreamTest : public StreamConnectionTest,
                          public testing::WithParamInterface<Change> {};

TEST_P(HostileStreamTest, CloseTheConnectionAsCorrupt) {
  Buffer wire = bytes_of_message(1, pattern(300, 10));
  const Buffer good = wire;
  for (std::size_t i = 0; i < GetParam().bytes.size(); ++i) {
    wire[GetParam().at + i] = static_cast<std::byte>(GetParam().bytes[i]);
  }
  for (const std::size_t chunk : {std::size_t{1}, SIZE_MAX}) {
    connect(chunk);
    // After a good message, so that it is not only the first header that is looked at.
    play_.incoming = good;
    play_.incoming.insert(play_.incoming.end(), wire.begin(), wire.end());
    ends_.clear();
    read_all();
    ASSERT_TRUE(closed_);
    EXPECT_EQ(closed_->code(), ErrorCode::kCorrupt) << closed_->what();
    EXPECT_EQ(ends_.size(), 1u);
  }
}

// Places as in message.h.
INSTANTIATE_TEST_SUITE_P(
    Headers, HostileStreamTest,
    testing::Values(
        Change{"magic", 0, {0xe2}}, Change{"newer_format", 2, {2}}, Change{"kind_0", 3, {0}},
        Change{"unknown_kind", 3, {99}}, Change{"huge_segment", 4, {0xff, 0xff, 0xff, 0xff}},
        Change{"segment_above_the_maximum", 4, {1, 0, 8, 0}},
        Change{"segment_larger_than_its_message", 4, {0x2d, 1, 0, 0}},
        Change{"segment_behind_its_message", 48, {1, 0, 0, 0, 0, 0, 0, 0}},
        Change{"offset_that_overflows", 48, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}),
    change_name);

TEST_F(StreamConnectionTest, RandomBytesEndInAnError) {
  const Buffer good = bytes_of_message(1, pattern(300, 11));
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    Buffer wire = good;
    wire.insert(wire.end(), good.begin(), good.end());
    if (seed % 2 == 0) {
      wire = pattern(500, seed);
    } else {
      wire[random() % 96] ^= std::byte{1} << random() % 8;
      wire.resize(random() % wire.size());
    }
    connect(1 + random() % 200);
    on_header = [](const MessageHeader& header) {
      // What an owner does with sizes that it does not expect.
      if (header.total_bytes > 1 << 20) throw Error(ErrorCode::kMismatch, "too much");
    };
    play_.incoming = wire;
    play_.ended = true;
    read_all();
    ASSERT_TRUE(closed_) << "seed " << seed;
  }
  on_header = nullptr;
}

TEST_F(StreamConnectionTest, AnEndInTheMiddleIsALostPeer) {
  const Buffer wire = bytes_of_message(1, pattern(300, 12));
  for (std::size_t bytes = 0; bytes <= wire.size(); ++bytes) {
    connect();
    play_.incoming = Buffer(wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(bytes));
    play_.ended = true;
    ends_.clear();
    read_all();
    ASSERT_TRUE(closed_);
    EXPECT_EQ(closed_->code(), ErrorCode::kPeerLost);
    EXPECT_EQ(ends_.size(), bytes == wire.size() ? 1u : 0u) << bytes;
  }
}

}  // namespace
}  // namespace treadle
