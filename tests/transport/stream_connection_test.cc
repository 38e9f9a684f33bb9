// StreamConnection over a pipe that the test plays: reads and writes as short as it likes, any
// bytes at all, and an end at any moment.
#include "transport/stream_connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "core/error.h"

namespace treadle {
namespace {

using Buffer = std::vector<std::byte>;

Buffer pattern(std::size_t bytes, std::uint32_t seed) {
  std::mt19937 random(seed);
  Buffer data(bytes);
  for (auto& byte : data) byte = static_cast<std::byte>(random());
  return data;
}

// The other end is the test: it takes from `written` and puts into `incoming`.
class PlayedPipe final : public Pipe {
 public:
  struct Play {
    Buffer incoming;
    std::size_t read = 0;
    std::size_t read_limit = SIZE_MAX;   // per call
    std::size_t write_limit = SIZE_MAX;  // per call
    std::size_t room = SIZE_MAX;         // altogether
    Buffer written;
    bool ended = false;  // by the peer
    Events* events = nullptr;
  };
  explicit PlayedPipe(Play& play) : play_(play) {}

  void start_on_loop(Events& events) override { play_.events = &events; }
  std::size_t try_write_on_loop(std::span<const iovec> pieces) override {
    if (play_.ended) throw Error(ErrorCode::kPeerLost, "played: broken");
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      const auto bytes = std::min({piece.iov_len, play_.write_limit - done, play_.room});
      play_.written.insert(play_.written.end(), from, from + bytes);
      play_.room -= bytes;
      done += bytes;
    }
    return done;
  }
  std::size_t try_read_on_loop(std::span<const iovec> pieces) override {
    std::size_t done = 0;
    for (const iovec& piece : pieces) {
      const auto bytes =
          std::min({piece.iov_len, play_.read_limit - done, play_.incoming.size() - play_.read});
      if (bytes > 0) std::memcpy(piece.iov_base, play_.incoming.data() + play_.read, bytes);
      play_.read += bytes;
      done += bytes;
    }
    if (done == 0 && play_.ended) throw Error(ErrorCode::kPeerLost, "played: end of stream");
    return done;
  }
  std::string peer_text() const override { return "played"; }

 private:
  Play& play_;
};

class StreamConnectionTest : public testing::Test, public ConnectionEvents {
 protected:
  StreamConnectionTest() { config_.segment_bytes = 4096; }
  ~StreamConnectionTest() override {
    engine_.run_on_loop([this] { connection_.reset(); });
  }

  void connect(std::size_t chunk = SIZE_MAX) {
    play_ = {};
    play_.read_limit = play_.write_limit = chunk;
    closed_.reset();
    got_.clear();
    engine_.run_on_loop([&] {
      connection_ = std::make_unique<StreamConnection>(std::make_unique<PlayedPipe>(play_), engine_,
                                                       config_, this);
    });
  }
  void post(std::uint64_t communicator, std::uint64_t sequence, const Buffer& payload,
            int priority = kNormal) {
    connection_->post_on_loop(
        {.header = {.kind = MessageKind::kData, .communicator = communicator, .sequence = sequence},
         .payload = payload,
         .priority = priority,
         .done = [this, sequence] { done_.push_back(sequence); },
         .segment = nullptr});
  }
  // Until nothing moves any more.
  void write_all() {
    engine_.run_on_loop([this] {
      while (connection_ && play_.events->on_writable_on_loop()) {
      }
    });
    engine_.run_on_loop([] {});  // what was posted meanwhile
  }
  void read_all() {
    engine_.run_on_loop([this] {
      while (connection_ && play_.events->on_readable_on_loop()) {
      }
    });
  }
  // What this connection writes for one message.
  Buffer bytes_of_message(std::uint64_t sequence, const Buffer& payload) {
    connect();
    engine_.run_on_loop([&] { post(1, sequence, payload); });
    write_all();
    return play_.written;
  }

  std::optional<Bytes> on_header_on_loop(const MessageHeader& header) override {
    if (on_header) on_header(header);
    auto& message = got_[header.sequence];
    message.resize(header.total_bytes);
    return Bytes(message).subspan(header.offset_bytes, header.size_bytes);
  }
  void on_payload_on_loop(const MessageHeader& header, std::shared_ptr<SharedSegment>) override {
    ends_.push_back(header);
    if (on_payload) on_payload(header);
  }
  void on_closed_on_loop(const Error& error) override {
    EXPECT_FALSE(closed_) << "closed twice";
    closed_ = error;
    connection_.reset();
  }

  Config config_;
  Engine engine_{{.slice = milliseconds(1000), .start_thread = false}};
  PlayedPipe::Play play_;
  std::unique_ptr<StreamConnection> connection_;
  std::map<std::uint64_t, Buffer> got_;  // by sequence
  std::vector<MessageHeader> ends_;
  std::vector<std::uint64_t> done_;
  std::optional<Error> closed_;
  std::function<void(const MessageHeader&)> on_header;
  std::function<void(const MessageHeader&)> on_payload;
};

TEST_F(StreamConnectionTest, ShortReadsAndWritesLoseNothing) {
  std::vector<Buffer> payloads;
  for (const std::size_t bytes : {0, 1, 95, 96, 4095, 4096, 4097, 0, 150'000}) {
    payloads.push_back(pattern(bytes, static_cast<std::uint32_t>(bytes)));
  }
  for (const std::size_t chunk : {1, 7, 95, 96, 97, 1000, 70'000}) {
    SCOPED_TRACE(chunk);
    connect(chunk);
    engine_.run_on_loop([&] {
      for (std::size_t i = 0; i < payloads.size(); ++i) post(1, i, payloads[i]);
    });
    write_all();
    EXPECT_EQ(done_.size(), payloads.size());
    done_.clear();
    const Buffer wire = play_.written;
    connect(chunk);
    play_.incoming = wire;
    read_all();
    EXPECT_FALSE(closed_);
    EXPECT_EQ(play_.read, wire.size());
    for (std::size_t i = 0; i < payloads.size(); ++i) EXPECT_TRUE(got_[i] == payloads[i]) << i;
  }
}

TEST_F(StreamConnectionTest, AnUrgentMessageOvertakesAtTheNextSegment) {
  const auto bulk = pattern(1 << 20, 1);
  const auto urgent = pattern(10, 2);
  connect();
  play_.room = 1000;  // within the first segment
  engine_.run_on_loop([&] {
    post(1, 1, bulk);
    post(1, 2, urgent, kUrgent);
    play_.room = SIZE_MAX;
  });
  write_all();
  const Buffer wire = play_.written;
  connect();
  play_.incoming = wire;
  read_all();
  ASSERT_GE(ends_.size(), 3u);
  const auto at = std::ranges::find(ends_, 2u, &MessageHeader::sequence) - ends_.begin();
  EXPECT_LE(at, 2) << "segments went out before the urgent message";
  EXPECT_TRUE(got_[1] == bulk);
  EXPECT_TRUE(got_[2] == urgent);
}

TEST_F(StreamConnectionTest, CancelCopiesTheRestOfWhatIsOnTheWire) {
  auto bulk = pattern(100'000, 3);
  const auto original = bulk;
  const auto other = pattern(50, 4);
  connect();
  play_.room = 5000;  // ends in the second segment
  engine_.run_on_loop([&] {
    post(1, 1, bulk);
    post(2, 2, other);
    connection_->cancel_on_loop(1);
    std::ranges::fill(bulk, std::byte{0xee});
    play_.room = SIZE_MAX;
  });
  write_all();
  EXPECT_EQ(done_, std::vector<std::uint64_t>{2});
  const Buffer wire = play_.written;
  connect();
  play_.incoming = wire;
  read_all();
  EXPECT_FALSE(closed_);
  EXPECT_TRUE(got_[2] == other);
  std::size_t arrived = 0;
  for (const auto& header : ends_) arrived += header.sequence == 1 ? header.size_bytes : 0;
  EXPECT_GE(arrived, 4096u);
  EXPECT_LT(arrived, original.size());
  EXPECT_TRUE(std::equal(got_[1].begin(), got_[1].begin() + static_cast<std::ptrdiff_t>(arrived),
                         original.begin()));
}

// Written, but its sender has not been told yet when it no longer wants to know.
TEST_F(StreamConnectionTest, NothingIsDoneAfterCancel) {
  const auto payload = pattern(10, 5);
  connect();
  engine_.run_on_loop([&] {
    post(1, 1, payload);
    post(2, 2, payload);
    connection_->cancel_on_loop(1);
  });
  write_all();
  EXPECT_EQ(done_, std::vector<std::uint64_t>{2});
}

TEST_F(StreamConnectionTest, ADoneThatCancelsSilencesTheOthers) {
  const auto payload = pattern(10, 6);
  connect();
  engine_.run_on_loop([&] {
    for (const std::uint64_t sequence : {1, 2}) {
      connection_->post_on_loop(
          {.header = {.kind = MessageKind::kData, .communicator = 1, .sequence = sequence},
           .payload = payload,
           .priority = kNormal,
           .done =
               [this, sequence] {
                 done_.push_back(sequence);
                 connection_->cancel_on_loop(1);
               },
           .segment = nullptr});
    }
  });
  write_all();
  EXPECT_EQ(done_, std::vector<std::uint64_t>{1});
}

// A call reads a bounded amount. What it has read ahead makes no descriptor readable, so the
// connection itself must come back to it.
TEST_F(StreamConnectionTest, MessagesReadAheadNeedNoFurtherEvent) {
  constexpr std::size_t kMessages = 1500;
  const Buffer one = bytes_of_message(1, {});
  connect();
  ends_.clear();
  for (std::size_t i = 0; i < kMessages; ++i) {
    play_.incoming.insert(play_.incoming.end(), one.begin(), one.end());
  }
  engine_.run_on_loop([&] {
    play_.events->on_readable_on_loop();
    EXPECT_LT(ends_.size(), kMessages) << "the amount is not bounded: this test shows nothing";
  });
  for (int round = 0; round < 10; ++round) engine_.run_on_loop([] {});
  EXPECT_EQ(ends_.size(), kMessages);
}

// A peer that has got everything may close before this side hears that its message is written.
TEST_F(StreamConnectionTest, WhatIsWrittenIsToldBeforeTheEnd) {
  const auto payload = pattern(10, 7);
  connect();
  engine_.run_on_loop([&] {
    post(1, 1, payload);
    play_.ended = true;
    play_.events->on_readable_on_loop();
    EXPECT_EQ(done_, std::vector<std::uint64_t>{1});
    EXPECT_TRUE(closed_);
  });
}

TEST_F(StreamConnectionTest, NothingIsToldAfterItsDestruction) {
  const auto payload = pattern(10, 7);
  connect();
  engine_.run_on_loop([&] {
    post(1, 1, payload);
    connection_.reset();
  });
  write_all();
  EXPECT_FALSE(closed_);
  EXPECT_TRUE(done_.empty());
}

TEST_F(StreamConnectionTest, ABreakWhilePostingIsToldLater) {
  const auto payload = pattern(10, 8);
  connect();
  play_.ended = true;
  engine_.run_on_loop([&] {
    post(1, 1, payload);
    EXPECT_FALSE(closed_) << "told inside post";
  });
  write_all();
  ASSERT_TRUE(closed_);
  EXPECT_EQ(closed_->code(), ErrorCode::kPeerLost);
  EXPECT_TRUE(done_.empty());
}

TEST_F(StreamConnectionTest, MayBeDestroyedInsideEveryEvent) {
  const Buffer wire = [&] {
    Buffer all = bytes_of_message(1, pattern(5000, 9));
    const Buffer more = bytes_of_message(2, {});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  for (const bool in_header : {true, false}) {
    for (const int after : {1, 2, 3}) {
      SCOPED_TRACE(testing::Message() << (in_header ? "header " : "payload ") << after);
      int left = after;
      const auto end = [&](const MessageHeader&) {
        if (--left == 0) connection_.reset();
      };
      connect();
      play_.incoming = wire;
      on_header = in_header ? end : std::function<void(const MessageHeader&)>();
      on_payload = in_header ? std::function<void(const MessageHeader&)>() : end;
      read_all();
      EXPECT_EQ(connection_, nullptr);
      EXPECT_FALSE(closed_);
    }
  }
  on_header = on_payload = nullptr;
}

// ---- bytes that make no sense ----

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
