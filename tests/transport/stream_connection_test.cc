// StreamConnection in good and bad weather; hostile bytes have a file of their own.
#include "transport/stream_connection.h"

#include "tests/transport/played_stream.h"

namespace treadle {
namespace {

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

}  // namespace
}  // namespace treadle
