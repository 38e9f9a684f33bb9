#include "transport/memory/memory.h"

#include "tests/transport/transport_contract.h"

namespace treadle {
namespace {

INSTANTIATE_TEST_SUITE_P(Memory, TransportContract,
                         testing::ValuesIn(on_both_lanes("memory",
                                                         [] { return memory_row(memory_hub()); })),
                         case_name);

// The listener's engine ends with the call still in its queue.
TEST(MemoryTransportTest, ACallThatIsNeverAnsweredEnds) {
  const auto row = memory_row(memory_hub());
  ContractEndpoint here(row);
  auto there = std::make_unique<ContractEndpoint>(row);
  const auto address = there->address();
  ContractEnd* end = nullptr;
  there->engine.run_on_loop([&] {
    here.engine.run_on_loop([&] { end = &here.connect_on_loop(address, Lane::kData); });
    there->listener.reset();
  });
  there.reset();
  ASSERT_TRUE(here.wait([&] { return end->closed().has_value(); }));
  EXPECT_EQ(end->closed()->code(), ErrorCode::kPeerLost);
  EXPECT_THAT(end->closed()->what(), testing::HasSubstr(address));
}

TEST(MemoryTransportTest, SegmentsAreTheSameMemory) {
  const auto row = memory_row(memory_hub());
  ContractEndpoint here(row), there(row);
  const auto address = there.address();
  const auto segment = here.transport->make_segment(64);
  here.engine.run_on_loop([&] {
    here.connect_on_loop(address, Lane::kControl)
        .connection->post_on_loop({.header = {.kind = MessageKind::kSegment, .communicator = 1},
                                   .payload = {},
                                   .priority = kNormal,
                                   .done = nullptr,
                                   .segment = segment});
  });
  ASSERT_TRUE(there.wait(
      [&] { return there.accepted(0) != nullptr && there.accepted(0)->complete_count() == 1; }));
  EXPECT_EQ(there.accepted(0)->message(1, 0).segment, segment);
}

}  // namespace
}  // namespace treadle
