#include "tests/transport/transport_contract.h"

#include <algorithm>
#include <thread>

namespace treadle {

TEST_P(TransportContract, PayloadsArriveIntactBothWays) {
  const std::vector<std::size_t> sizes = {0,     1,      95,     96,     97,       4096,
                                          65535, 65'536, 65'537, 524288, 3'000'007};
  std::vector<ConstBytes> payloads;
  for (const auto size : sizes) payloads.emplace_back(pattern(size, static_cast<unsigned>(size)));

  ContractEnd& here = dial();
  for (std::size_t i = 0; i < sizes.size(); ++i) post(here_, here, 1, i, payloads[i]);
  ContractEnd& there = accepted();
  for (std::size_t i = 0; i < sizes.size(); ++i) post(there_, there, 1, i, payloads[i]);
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == sizes.size(); }));
  ASSERT_TRUE(here_.wait([&] { return here.complete_count() == sizes.size(); }));
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    for (const ContractEnd* end : {&here, &there}) {
      const auto got = end->message(1, i);
      EXPECT_TRUE(std::ranges::equal(got.payload, payloads[i])) << sizes[i] << " bytes";
      EXPECT_EQ(got.header.kind, MessageKind::kData);
      EXPECT_EQ(got.header.total_bytes, sizes[i]);
    }
  }
  EXPECT_TRUE(here_.wait([&] { return done_ == 2 * static_cast<int>(sizes.size()); }));
  here_.engine.run_on_loop([&] { EXPECT_TRUE(here.connection->flushed_on_loop()); });
}

TEST_P(TransportContract, ManyMessagesBothWaysAtOnce) {
  constexpr std::uint64_t kMessages = 600;
  std::mt19937 random(7);
  std::vector<ConstBytes> payloads;
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    payloads.emplace_back(
        pattern(random() % (i % 10 == 0 ? 100'000 : 300), static_cast<std::uint32_t>(i)));
  }
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  const auto post_all = [&](ContractEnd& end) {
    for (std::uint64_t i = 0; i < kMessages; ++i) post_on_loop(end, i % 5, i, payloads[i]);
  };
  here_.engine.post([&] { post_all(here); });
  there_.engine.post([&] { post_all(there); });
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == kMessages; }));
  ASSERT_TRUE(here_.wait([&] { return here.complete_count() == kMessages; }));
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    ASSERT_TRUE(std::ranges::equal(here.message(i % 5, i).payload, payloads[i])) << i;
    ASSERT_TRUE(std::ranges::equal(there.message(i % 5, i).payload, payloads[i])) << i;
  }
}

TEST_P(TransportContract, UrgentOvertakesBulk) {
  const auto& bulk = pattern(32 << 20, 1);
  const auto& urgent = pattern(100, 2);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  while_there_is_busy([&] {
    post_on_loop(here, 1, 1, bulk);
    post_on_loop(here, 1, 2, urgent, kUrgent);
  });
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 2; }));
  EXPECT_EQ(there.order().front(), ContractEnd::Name(1, 2));
  EXPECT_TRUE(there.message(1, 1).payload == bulk);
  EXPECT_TRUE(there.message(1, 2).payload == urgent);
}

TEST_P(TransportContract, ADroppedPayloadLeavesTheOthersAlone) {
  const auto& payload = pattern(700'000, 3);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  there_.engine.run_on_loop([&] { there.dropped.insert(7); });
  here_.engine.run_on_loop([&] {
    for (std::uint64_t i = 0; i < 4; ++i) post_on_loop(here, i % 2 == 0 ? 7 : 8, i, payload);
  });
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 4; }));
  EXPECT_TRUE(there.message(7, 0).payload.empty());
  EXPECT_TRUE(there.message(8, 1).payload == payload);
  EXPECT_TRUE(there.message(8, 3).payload == payload);
}

TEST_P(TransportContract, AThrowingHeaderClosesBothEnds) {
  const auto& payload = pattern(100'000, 4);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  there_.engine.run_on_loop([&] {
    there.on_header = [](const MessageHeader& header) {
      if (header.sequence == 3) throw Error(ErrorCode::kMismatch, "not this one");
    };
  });
  here_.engine.run_on_loop([&] {
    for (std::uint64_t i = 0; i < 6; ++i) post_on_loop(here, 1, i, payload);
  });
  ASSERT_TRUE(there_.wait([&] { return there.closed().has_value(); }));
  EXPECT_EQ(there.closed()->code(), ErrorCode::kMismatch);
  EXPECT_STREQ(there.closed()->what(), "not this one");
  EXPECT_EQ(there.complete_count(), 3u);
  ASSERT_TRUE(here_.wait([&] { return here.closed().has_value(); }));
  EXPECT_EQ(here.closed()->code(), ErrorCode::kPeerLost) << here.closed()->what();
}

TEST_P(TransportContract, AGonePeerIsLostAfterItsLastBytes) {
  const auto& payload = pattern(1000, 5);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  post(here_, here, 1, 0, payload);
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 1; }));  // it stands
  while_there_is_busy([&] {
    for (std::uint64_t i = 1; i < 20; ++i) post_on_loop(here, 1, i, payload);
    EXPECT_TRUE(here.connection->flushed_on_loop());
    here.connection.reset();
  });
  ASSERT_TRUE(there_.wait([&] { return there.closed().has_value(); }));
  EXPECT_EQ(there.closed()->code(), ErrorCode::kPeerLost) << there.closed()->what();
  EXPECT_EQ(there.complete_count(), 20u) << "what was written before was not read";
  EXPECT_FALSE(here.closed().has_value()) << "told of its own closing";
}

TEST_P(TransportContract, APeerThatGoesWhileBothSendIsLost) {
  const auto& payload = pattern(8 << 20, 6);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  post(there_, there, 1, 1, payload);
  while_there_is_busy([&] {
    post_on_loop(here, 1, 1, payload);
    here.connection.reset();
  });
  ASSERT_TRUE(there_.wait([&] { return there.closed().has_value(); }));
  EXPECT_EQ(there.closed()->code(), ErrorCode::kPeerLost) << there.closed()->what();
}

TEST_P(TransportContract, ASendersCancelKeepsItsBufferAlone) {
  auto& bulk = pattern(16 << 20, 7);
  const auto original = bulk;
  const auto& other = pattern(500'000, 8);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  while_there_is_busy([&] {
    post_on_loop(here, 1, 1, bulk);
    post_on_loop(here, 2, 2, other);
    here.connection->cancel_on_loop(1);
    std::fill(bulk.begin(), bulk.end(), std::byte{0xee});
  });
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 1; }));
  EXPECT_TRUE(there.message(2, 2).payload == other);
  const auto part = there.message(1, 1);
  EXPECT_FALSE(part.complete());
  // Segments of one message come in order, so this is its beginning.
  EXPECT_TRUE(std::equal(part.payload.begin(),
                         part.payload.begin() + static_cast<std::ptrdiff_t>(part.got_bytes),
                         original.begin()))
      << "bytes were read from the buffer after cancel";
  EXPECT_TRUE(here_.wait([&] { return done_ == 1; })) << "only the other message is done";
}

// A payload may belong to its own `done`, and a communicator may be cancelled twice.
TEST_P(TransportContract, ASendersCancelKeepsWhatTheWireHasBegun) {
  const auto& bulk = pattern(16 << 20, 12);
  const auto& other = pattern(500'000, 13);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  while_there_is_busy([&] {
    const MessageHeader header{.kind = MessageKind::kData, .communicator = 1, .sequence = 1};
    auto owned = std::make_shared<const std::vector<std::byte>>(bulk);
    const ConstBytes payload = *owned;
    here.connection->post_on_loop(
        {.header = header, .payload = payload, .done = [owned = std::move(owned)] {}});
    post_on_loop(here, 2, 2, other);
    here.connection->cancel_on_loop(1);
    here.connection->cancel_on_loop(1);
  });
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 1; }));
  EXPECT_TRUE(there.message(2, 2).payload == other);
  const auto part = there.message(1, 1);
  EXPECT_TRUE(std::equal(part.payload.begin(),
                         part.payload.begin() + static_cast<std::ptrdiff_t>(part.got_bytes),
                         bulk.begin()));
}

TEST_P(TransportContract, AReceiversCancelKeepsItsBufferAlone) {
  const auto& bulk = pattern(16 << 20, 9);
  const auto& other = pattern(500'000, 10);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  post(here_, here, 1, 1, bulk);
  post(here_, here, 2, 2, other);
  ASSERT_TRUE(there_.wait([&] { return there.got_bytes(1, 1) > 0; }));
  std::vector<std::byte> snapshot;
  there_.engine.run_on_loop([&] {
    there.connection->cancel_on_loop(1);
    there.dropped.insert(1);
    snapshot = there.message(1, 1).payload;
  });
  ASSERT_TRUE(there_.wait([&] { return there.got_bytes(2, 2) == other.size(); }));
  EXPECT_TRUE(there.message(1, 1).payload == snapshot) << "written after cancel";
  EXPECT_TRUE(there.message(2, 2).payload == other);
}

TEST_P(TransportContract, SegmentsPassInOrderWithMessages) {
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  bool can_share = false;
  here_.engine.run_on_loop([&] { can_share = here.connection->can_share(); });
  if (!can_share) GTEST_SKIP() << "this lane passes no memory";

  constexpr std::uint64_t kSegments = 40;
  const auto& payload = pattern(20'000, 11);
  std::vector<std::shared_ptr<SharedSegment>> segments;
  here_.engine.run_on_loop([&] {
    for (std::uint64_t i = 0; i < kSegments; ++i) {
      segments.push_back(here_.transport->make_segment(10'000 + i));
      const Bytes bytes = segments.back()->bytes();
      ASSERT_EQ(bytes.size(), 10'000 + i);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64, 0u);
      EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; }));
      bytes[i] = std::byte{1};
      post_on_loop(here, 2, i, payload);
      here.connection->post_on_loop(
          {.header = {.kind = MessageKind::kSegment, .communicator = 1, .sequence = i},
           .payload = {},
           .priority = kNormal,
           .done = nullptr,
           .segment = segments.back()});
    }
  });
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 2 * kSegments; }));
  for (std::uint64_t i = 0; i < kSegments; ++i) {
    EXPECT_TRUE(there.message(2, i).payload == payload);
    const auto segment = there.message(1, i).segment;
    ASSERT_NE(segment, nullptr) << i;
    ASSERT_GE(segment->bytes().size(), 10'000 + i);
    EXPECT_EQ(segment->bytes()[i], std::byte{1}) << "segment " << i << " is another one";
    segment->bytes()[5000] = std::byte{42};
    EXPECT_EQ(segments[i]->bytes()[5000], std::byte{42}) << "not the same memory";
  }
}

TEST_P(TransportContract, TheDoorbellWakesThePeer) {
  ContractEnd& here = dial();
  post(here_, here, 1, 1, {});
  ContractEnd& there = accepted();
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 1; }));
  std::shared_ptr<Doorbell> bell;
  here_.engine.run_on_loop([&] { bell = here.connection->peer_doorbell(); });
  if (bell == nullptr) GTEST_SKIP() << "this transport has no doorbell";
  std::atomic<bool> flag{false};
  std::thread ringer([&] {
    flag = true;
    bell->ring();
  });
  EXPECT_TRUE(there_.wait([&] { return flag.load(); }));
  ringer.join();
}

// With both engines asleep in between, every message has to wake the other side.
TEST_P(TransportContract, EveryMessageWakesThePeer) {
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  for (std::uint64_t i = 0; i < 200; ++i) {
    post(here_, here, 1, i, {});
    ASSERT_TRUE(there_.wait([&] { return there.complete_count() == i + 1; })) << i;
    post(there_, there, 1, i, {});
    ASSERT_TRUE(here_.wait([&] { return here.complete_count() == i + 1; })) << i;
  }
}

TEST_P(TransportContract, ConnectingToNobodySaysWhere) {
  const auto address = there_.address();
  there_.engine.run_on_loop([&] { there_.listener.reset(); });
  ContractEnd* here = nullptr;
  here_.engine.run_on_loop([&] {
    here = &here_.connect_on_loop(address, GetParam().lane);
    EXPECT_FALSE(here->closed().has_value()) << "reported from inside connect";
    post_on_loop(*here, 1, 1, {});
  });
  ASSERT_TRUE(here_.wait([&] { return here->closed().has_value(); }));
  EXPECT_THAT(here->closed()->what(), testing::HasSubstr(GetParam().shown(address)));
}

TEST_P(TransportContract, ConnectionsOutliveTheListener) {
  const auto& payload = pattern(300'000, 12);
  ContractEnd& here = dial();
  ContractEnd& there = accepted();
  there_.engine.run_on_loop([&] { there_.listener.reset(); });
  post(here_, here, 1, 1, payload);
  ASSERT_TRUE(there_.wait([&] { return there.complete_count() == 1; }));
  EXPECT_TRUE(there.message(1, 1).payload == payload);
}

TEST_P(TransportContract, ACallerThatHangsUpAtOnceHarmsNobody) {
  const auto address = there_.address();
  here_.engine.run_on_loop([&] {
    for (int i = 0; i < 20; ++i) {
      here_.connect_on_loop(address, GetParam().lane).connection.reset();
    }
  });
  ContractEnd& here = dial();
  post(here_, here, 1, 77, {});
  ASSERT_TRUE(there_.wait([&] {
    for (std::size_t i = 0; there_.accepted(i) != nullptr; ++i) {
      if (there_.accepted(i)->complete_count() == 1) return true;
    }
    return false;
  }));
}

}  // namespace treadle
