// Every algorithm of every table, proved by playing all ranks' plans. A new row is tested by being
// there.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/collectives/plan_case.h"

namespace treadle {
namespace {

constexpr int kMostRanks = 33;
constexpr int kSmallGroup = 9;             // up to here every root, and hosts of several ranks
constexpr std::size_t kManyElems = 1009;   // prime: cuts unevenly
constexpr std::size_t kManyInBlock = 101;  // of each rank of a large group: together over 1000

struct Row {
  Collective collective;
  const Algorithm* algorithm;
};

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (int c = 0; c < kCollectives; ++c) {
    const auto collective = static_cast<Collective>(c);
    for (const Algorithm& algorithm : algorithms_of(collective))
      rows.push_back({collective, &algorithm});
  }
  return rows;
}

std::string row_name(const testing::TestParamInfo<Row>& tested) {
  return std::string(name_of(tested.param.collective)) + "_" +
         std::string(tested.param.algorithm->name);
}

std::set<int> roots_of(Collective collective, int ranks) {
  if (!has_root(collective)) return {0};
  if (ranks > kSmallGroup) return {0, 1, ranks / 2, ranks - 1};
  std::set<int> roots;
  for (int root = 0; root < ranks; ++root) roots.insert(root);
  return roots;
}

// Any number of elements; the others have a block of equal size for every rank.
bool cuts_its_buffer(Collective collective) {
  return collective == Collective::kAllReduce || collective == Collective::kBroadcast ||
         collective == Collective::kReduce;
}

std::set<std::size_t> sizes_of(Collective collective, int ranks) {
  if (collective == Collective::kBarrier) return {0};
  const auto p = static_cast<std::size_t>(ranks);
  const bool in_blocks = !cuts_its_buffer(collective);
  return {0, 1, p - 1, p, p + 1, in_blocks && ranks > kSmallGroup ? kManyInBlock : kManyElems};
}

// Each rank its own host, all on one, two unequal halves, hosts in turn.
std::vector<std::vector<int>> host_maps(int ranks) {
  const auto p = static_cast<std::size_t>(ranks);
  std::vector<std::vector<int>> maps = {{}, std::vector<int>(p, 0)};
  if (ranks < 3 || ranks > kSmallGroup) return maps;
  std::vector<int> halves(p, 0);
  std::vector<int> turns(p, 0);
  for (std::size_t r = 0; r < p; ++r) {
    halves[r] = r > p / 2 ? 1 : 0;
    turns[r] = static_cast<int>(r % 2);
  }
  maps.push_back(halves);
  maps.push_back(turns);
  return maps;
}

class PlanTest : public testing::TestWithParam<Row> {
 protected:
  const Collective collective_ = GetParam().collective;
  const Algorithm& algorithm_ = *GetParam().algorithm;

  bool accepts(const PlanCase& tested) const {
    return algorithm_.accepts(
        {.ranks = tested.ranks, .root = tested.root, .host_of_rank = tested.hosts});
  }
  // The number of cases proved.
  int prove_all_sizes(PlanCase tested) const {
    if (!accepts(tested)) return 0;
    int proved = 0;
    const std::vector<Plan> plans = plans_of(algorithm_, tested);
    for (const std::size_t elems : sizes_of(collective_, tested.ranks)) {
      tested.elems = elems;
      for (const bool in_place : {false, true}) {
        if (in_place && !has_in_place(collective_)) continue;
        tested.in_place = in_place;
        SCOPED_TRACE(text_of(tested));
        EXPECT_NO_THROW(prove(tested, algorithm_.order, plans));
        ++proved;
      }
    }
    return proved;
  }
  // `round` is one of the plans'. The number of steps that were dropped, one at a time.
  int drop_each_step(const PlanCase& tested, const std::vector<Plan>& plans, Round& round) const {
    int dropped = 0;
    const std::vector<Step> whole = round.steps;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      // The buffer of a broadcast is input and output: copying it onto itself is idle.
      if (collective_ == Collective::kBroadcast && whole[i].kind == StepKind::kCopy) continue;
      round.steps.erase(round.steps.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_THROW(prove(tested, algorithm_.order, plans), PlanFault)
          << text_of(tested) << ", without step " << i << " of " << to_text({.rounds = {{whole}}});
      round.steps = whole;
      ++dropped;
    }
    return dropped;
  }
};

TEST_P(PlanTest, EveryRankEndsWithWhatIsPromised) {
  int proved = 0;
  for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
    for (const int root : roots_of(collective_, ranks)) {
      for (const auto& hosts : host_maps(ranks)) {
        proved += prove_all_sizes(
            {.collective = collective_, .ranks = ranks, .root = root, .hosts = hosts});
        if (HasFailure()) return;  // the first one says enough
      }
    }
  }
  EXPECT_GT(proved, 0) << "the algorithm accepts nothing";
  RecordProperty("proved", proved);
}

// Dropping any one step must be noticed: nothing in a plan is idle, and the proof is no formality.
TEST_P(PlanTest, EveryStepIsNeeded) {
  int dropped = 0;
  for (int ranks = 2; ranks <= 5; ++ranks) {
    PlanCase tested{.collective = collective_,
                    .ranks = ranks,
                    .root = 1,
                    .elems = collective_ == Collective::kBarrier ? 0u : 11u};
    if (!accepts(tested)) tested.hosts.assign(static_cast<std::size_t>(ranks), 0);
    if (!accepts(tested)) continue;
    std::vector<Plan> plans = plans_of(algorithm_, tested);
    for (Plan& plan : plans) {
      for (Round& round : plan.rounds) dropped += drop_each_step(tested, plans, round);
    }
  }
  EXPECT_GT(dropped, 0);
}

INSTANTIATE_TEST_SUITE_P(Table, PlanTest, testing::ValuesIn(all_rows()), row_name);

}  // namespace
}  // namespace treadle
