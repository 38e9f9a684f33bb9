// Contract 1 with real processes: whatever happens to one rank, every other one gets an error that
// names it and the operation in bounded time, and can leave.
#include <gtest/gtest.h>

#include <memory>

#include "tests/collectives/process_group.h"

namespace treadle {
namespace {

// What a user may have to wait for the bad news, and how long a group may take to get going on a
// busy machine.
constexpr std::chrono::seconds kLimit{10};
// Five large operations take half a minute under TSan.
constexpr std::chrono::seconds kStart{120};

struct KillCase {
  std::size_t operation;  // of operation_cases()
  Links links;
  Moment moment;
  int victim;
};

std::string text_of(const KillCase& c) {
  return fmt::format("{}_{}_{}_rank{}", operation_cases()[c.operation].name, name_of(c.links),
                     name_of(c.moment), c.victim);
}

std::string kill_name(const testing::TestParamInfo<KillCase>& tested) {
  return text_of(tested.param);
}
void PrintTo(const KillCase& c, std::ostream* out) { *out << text_of(c); }

std::vector<KillCase> kill_cases() {
  std::vector<KillCase> cases;
  for (std::size_t operation = 0; operation < operation_cases().size(); ++operation) {
    for (const Links links : {Links::kShm, Links::kTcp}) {
      int victim = 0;  // both the root and others
      for (const Moment moment : {Moment::kNeverCalled, Moment::kSmallLoop, Moment::kLarge}) {
        cases.push_back({operation, links, moment, (victim++ + static_cast<int>(operation)) % 3});
      }
    }
  }
  return cases;
}

class KillTest : public testing::TestWithParam<KillCase> {};

TEST_P(KillTest, EveryOtherRankNamesTheKilledOne) {
  const KillCase& c = GetParam();
  FailingGroup group({.operation = operation_cases()[c.operation],
                      .moment = c.moment,
                      .links = c.links,
                      .victim = c.victim});
  ASSERT_TRUE(group.await_moment(deadline_after(kStart)));
  group.processes.kill(c.victim);
  group.expect_survivors_blame_victim(deadline_after(kLimit));
}

INSTANTIATE_TEST_SUITE_P(Processes, KillTest, testing::ValuesIn(kill_cases()), kill_name);

struct StopCase {
  Links links;
  Moment moment;
};
std::string stop_name(const testing::TestParamInfo<StopCase>& tested) {
  return name_of(tested.param.links) + "_" + name_of(tested.param.moment);
}

void PrintTo(const StopCase& c, std::ostream* out) {
  *out << name_of(c.links) << "_" << name_of(c.moment);
}

class StopTest : public testing::TestWithParam<StopCase> {};

// With the default heartbeat. All operations at once, since each takes some nine seconds.
TEST_P(StopTest, EveryOtherRankNamesTheStoppedOne) {
  constexpr int kVictim = 1;
  std::vector<std::unique_ptr<FailingGroup>> groups;
  std::vector<Deadline> by;
  for (const auto& operation : operation_cases()) {
    groups.push_back(
        std::make_unique<FailingGroup>(FailingGroup::Options{.operation = operation,
                                                             .moment = GetParam().moment,
                                                             .links = GetParam().links,
                                                             .victim = kVictim}));
    ASSERT_TRUE(groups.back()->await_moment(deadline_after(kStart))) << operation.name;
    groups.back()->processes.stop(kVictim);
    by.push_back(deadline_after(kLimit));
  }
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i]->expect_survivors_blame_victim(by[i]);
  // Those who come back learn that they have been given up.
  for (const auto& group : groups) {
    group->processes.resume(kVictim);
    if (GetParam().moment == Moment::kNeverCalled) group->processes.go(kVictim);
  }
  const auto back_by = deadline_after(kLimit);
  for (const auto& group : groups) {
    SCOPED_TRACE(group->options.operation.name + ", back again");
    group->expect_error_and_exit(kVictim, back_by);
  }
}

INSTANTIATE_TEST_SUITE_P(Processes, StopTest,
                         testing::Values(StopCase{Links::kShm, Moment::kNeverCalled},
                                         StopCase{Links::kShm, Moment::kSmallLoop},
                                         StopCase{Links::kShm, Moment::kLarge},
                                         StopCase{Links::kTcp, Moment::kNeverCalled},
                                         StopCase{Links::kTcp, Moment::kSmallLoop},
                                         StopCase{Links::kTcp, Moment::kLarge}),
                         stop_name);

}  // namespace
}  // namespace treadle
