// The proof of plans must notice every kind of broken plan.
#include "tests/collectives/plan_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/collectives/plan_case.h"

namespace treadle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const Algorithm& algorithm_named(Collective collective, std::string_view name) {
  for (const Algorithm& algorithm : algorithms_of(collective)) {
    if (algorithm.name == name) return algorithm;
  }
  throw std::invalid_argument("no such algorithm");
}

// What the proof says of an algorithm's plans for 4 ranks after `damage`; empty: nothing wrong.
std::string fault_of(Collective collective, std::string_view name,
                     const std::function<void(std::vector<Plan>&)>& damage) {
  const PlanCase tested{.collective = collective, .ranks = 4, .elems = 10, .hosts = {0, 0, 0, 0}};
  const Algorithm& algorithm = algorithm_named(collective, name);
  std::vector<Plan> plans = plans_of(algorithm, tested);
  damage(plans);
  try {
    prove(tested, algorithm.order, plans);
    return "";
  } catch (const PlanFault& fault) {
    return fault.what();
  }
}

// The first step of this kind.
Step& first(Plan& plan, std::size_t round, StepKind kind) {
  for (Step& step : plan.rounds.at(round).steps) {
    if (step.kind == kind) return step;
  }
  throw std::invalid_argument("no such step");
}

void drop(Plan& plan, std::size_t round, StepKind kind) {
  auto& steps = plan.rounds.at(round).steps;
  steps.erase(steps.begin() + (&first(plan, round, kind) - steps.data()));
}

constexpr auto kAllReduce = Collective::kAllReduce;

TEST(PlanCheckTest, AcceptsWhatIsRight) {
  EXPECT_EQ(fault_of(kAllReduce, "ring", [](auto&) {}), "");
}

TEST(PlanCheckTest, NoticesADroppedSend) {
  EXPECT_THAT(fault_of(kAllReduce, "ring", [](auto& p) { drop(p[1], 3, StepKind::kSend); }),
              AllOf(HasSubstr("deadlock"), HasSubstr("rank 2 waits in round 3 for rank 1")));
}

TEST(PlanCheckTest, NoticesADroppedReceive) {
  EXPECT_THAT(fault_of(kAllReduce, "ring", [](auto& p) { drop(p[1], 5, StepKind::kRecv); }),
              HasSubstr("round 5: nobody receives the message of rank 0 to rank 1"));
}

TEST(PlanCheckTest, NoticesACircleOfWaits) {
  // Everybody receives first and sends a round later.
  const auto late = [](std::vector<Plan>& plans) {
    for (Plan& plan : plans) {
      const Step send = first(plan, 0, StepKind::kSend);
      drop(plan, 0, StepKind::kSend);
      plan.rounds.insert(plan.rounds.begin() + 1, Round{{send}});
    }
  };
  EXPECT_THAT(fault_of(Collective::kReduceScatter, "ring", late), HasSubstr("deadlock"));
}

TEST(PlanCheckTest, NoticesADoubleFold) {
  const auto twice = [](std::vector<Plan>& plans) {
    auto& operands = first(plans[2], 0, StepKind::kReduce).operands;
    operands.push_back(operands.back());
  };
  EXPECT_THAT(fault_of(kAllReduce, "owner", twice), HasSubstr("has not every rank once"));
  EXPECT_THAT(fault_of(kAllReduce, "ring", twice), HasSubstr("has not every rank once"));
}

TEST(PlanCheckTest, NoticesAMissingContribution) {
  const auto less = [](std::vector<Plan>& plans) {
    first(plans[2], 0, StepKind::kReduce).operands.pop_back();
  };
  EXPECT_THAT(fault_of(kAllReduce, "owner", less), HasSubstr("has not every rank once"));
  EXPECT_THAT(fault_of(kAllReduce, "doubling", less), HasSubstr("has not every rank once"));
}

TEST(PlanCheckTest, NoticesAnotherOrder) {
  const auto swapped = [](std::vector<Plan>& plans) {
    auto& operands = first(plans[2], 0, StepKind::kReduce).operands;
    std::swap(operands.front(), operands.back());
  };
  EXPECT_THAT(fault_of(kAllReduce, "owner", swapped), HasSubstr("is added in another order"));
  EXPECT_THAT(fault_of(kAllReduce, "ring", swapped), HasSubstr("is added in another order"));
  EXPECT_THAT(fault_of(kAllReduce, "doubling", swapped), HasSubstr("is added in another order"));
}

TEST(PlanCheckTest, NoticesOtherLanes) {
  EXPECT_THAT(fault_of(kAllReduce, "owner", [](auto& p) { p[1].lane_bytes /= 2; }),
              HasSubstr("rank 1: lanes of"));
}

TEST(PlanCheckTest, NoticesAWrongSize) {
  EXPECT_THAT(fault_of(Collective::kAllGather, "direct", [](auto& p) { p[1].in_chunks = 2; }),
              HasSubstr("5 elements for out[1], which has 10"));
  EXPECT_THAT(fault_of(kAllReduce, "owner", [](auto& p) { p[1].in_chunks = 5; }),
              HasSubstr("rank 3 round 0: folds 3 elements with 2"));
  EXPECT_THAT(fault_of(kAllReduce, "owner", [](auto& p) { p[1].in_chunks = 1; }),
              HasSubstr("there is no in[2]"));
  EXPECT_THAT(
      fault_of(Collective::kReduceScatter, "owner", [](auto& p) { p[1].in_chunks = 4 + 4; }),
      HasSubstr("elements with"));
}

TEST(PlanCheckTest, NoticesTheWrongChunk) {
  EXPECT_THAT(fault_of(Collective::kAllToAll, "pairwise",
                       [](auto& p) { first(p[0], 0, StepKind::kSend).from = in_chunk(3); }),
              HasSubstr("holds the wrong element"));
  EXPECT_THAT(fault_of(Collective::kReduceScatter, "owner",
                       [](auto& p) { first(p[0], 0, StepKind::kSend).from = in_chunk(3); }),
              HasSubstr("folds element"));
}

TEST(PlanCheckTest, NoticesAReadOfUnwrittenScratch) {
  const auto other_slot = [](std::vector<Plan>& plans) {
    first(plans[0], 0, StepKind::kReduce).operands.front() = scratch(1);
  };
  EXPECT_THAT(fault_of(kAllReduce, "ring", other_slot), HasSubstr("scratch[1] is read unwritten"));
}

TEST(PlanCheckTest, NoticesAnOutputThatStaysUnwritten) {
  EXPECT_THAT(
      fault_of(Collective::kGather, "linear", [](auto& p) { drop(p[0], 0, StepKind::kCopy); }),
      HasSubstr("rank 0 out element 0 was never written"));
}

TEST(PlanCheckTest, NoticesPlacesThatAreNotThere) {
  const auto receive_in = [](Place place) {
    return fault_of(Collective::kAllGather, "direct",
                    [&](auto& p) { first(p[0], 0, StepKind::kRecv).to = place; });
  };
  EXPECT_THAT(receive_in(out_chunk(4)), HasSubstr("there is no out[4]"));
  EXPECT_THAT(receive_in(out_chunk(-1)), HasSubstr("there is no out[-1]"));
  EXPECT_THAT(receive_in(scratch(0)), HasSubstr("there is no scratch[0]"));
  EXPECT_THAT(receive_in(in_chunk(0)), HasSubstr("writes to its input"));
  // A rank that is not the root has no output.
  EXPECT_THAT(fault_of(Collective::kReduce, "owner",
                       [](auto& p) {
                         p[1].rounds[1].steps.push_back(copy_step(out_chunk(1), scratch(3)));
                       }),
              HasSubstr("elements for out[1], which has 0"));
}

TEST(PlanCheckTest, NoticesImpossiblePeers) {
  const auto send_to = [](int peer) {
    return fault_of(Collective::kAllGather, "direct",
                    [&](auto& p) { first(p[0], 0, StepKind::kSend).peer = peer; });
  };
  EXPECT_THAT(send_to(0), HasSubstr("rank 0 cannot be a peer"));
  EXPECT_THAT(send_to(4), HasSubstr("rank 4 cannot be a peer"));
  EXPECT_THAT(send_to(2), HasSubstr("two messages of a round with rank 2"));
}

TEST(PlanCheckTest, NoticesReceivesIntoTheSamePlace) {
  const auto same = [](std::vector<Plan>& plans) {
    first(plans[0], 0, StepKind::kRecv).to = out_chunk(2);
  };
  EXPECT_THAT(fault_of(Collective::kAllGather, "direct", same), HasSubstr("may land in out[2]"));
}

TEST(PlanCheckTest, NoticesMessagesThatMayLandTooEarly) {
  const auto two_early = [](std::vector<Plan>& plans) { plans[1].early_rounds = 2; };
  EXPECT_THAT(fault_of(kAllReduce, "ring", two_early),
              HasSubstr("round 2: the message of rank 0 may land in scratch[0] while round 0"));
  EXPECT_THAT(fault_of(kAllReduce, "doubling", [](auto& p) { p[0].early_rounds = 1; }),
              HasSubstr("may land in scratch[0]"));
}

// Correct where input and output are apart; where they are one, the first fold spoils the input.
TEST(PlanCheckTest, NoticesAPlanThatCannotShareItsBuffers) {
  std::vector<Plan> plans(2, {.scratch_slots = 1});
  plans[0].rounds = {{{send_step(1, in_chunk(0)), recv_step(1, scratch(0)),
                       reduce_step(out_chunk(0), {scratch(0)}),
                       reduce_step(out_chunk(0), {in_chunk(0), out_chunk(0)})}}};
  plans[1].rounds = {{{send_step(0, in_chunk(0)), recv_step(0, scratch(0)),
                       reduce_step(out_chunk(0), {scratch(0), in_chunk(0)})}}};
  PlanCase tested{.ranks = 2, .elems = 3};
  EXPECT_NO_THROW(prove(tested, OrderClass::kRankOrder, plans));
  tested.in_place = true;
  EXPECT_THROW(prove(tested, OrderClass::kRankOrder, plans), PlanFault);
}

TEST(PlanCheckTest, NoticesABarrierThatSomeoneMayLeaveEarly) {
  const auto shorter = [](std::vector<Plan>& plans) {
    for (Plan& plan : plans) plan.rounds.pop_back();
  };
  EXPECT_THAT(fault_of(Collective::kBarrier, "dissemination", shorter),
              HasSubstr("rank 0 may leave before rank 1 has come"));
}

TEST(PlanCheckTest, NoticesLocalStepsThatDoNotMeet) {
  EXPECT_THAT(fault_of(kAllReduce, "local", [](auto& p) { p[2].rounds.clear(); }),
              HasSubstr("rank 3 waits in round 0 for the local step of its host"));
  EXPECT_THAT(fault_of(kAllReduce, "local",
                       [](auto& p) { p[2].rounds[0].steps[0].local = LocalKind::kBarrier; }),
              HasSubstr("rank 2 round 0: rank 0 has another local step"));
  EXPECT_THAT(fault_of(kAllReduce, "local",
                       [](auto& p) {
                         for (Plan& plan : p) plan.rounds[0].steps[0].local = LocalKind::kAllGather;
                       }),
              HasSubstr("40 elements for an output of 10"));
}

}  // namespace
}  // namespace treadle
