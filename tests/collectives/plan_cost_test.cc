// What the headers of the algorithms say that they cost, counted by playing them.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>

#include "tests/collectives/plan_case.h"

namespace treadle {
namespace {

// For p ranks and n elements, as in PlanCase, where p divides n.
struct Cost {
  int rounds = 0;  // in which anybody sends
  int sent = 0;    // elements, by the rank that sends most
  int received = 0;
  int scratch = 0;
};

struct Row {
  Collective collective;
  std::string_view algorithm;
  Cost (*cost)(int p, int n);
};

int floor_log2(int p) { return std::bit_width(static_cast<unsigned>(p)) - 1; }
int ceil_log2(int p) { return std::bit_width(static_cast<unsigned>(p - 1)); }

Cost doubling(int p, int n) {
  const int log = floor_log2(p);
  if (p == 1 << log) return {log, n * log, n * log, n};
  return {log + 2, n * (log + 1), n * (log + 1), n};
}

// clang-format off
constexpr std::array kRows = {
    Row{Collective::kAllReduce, "local", [](int, int) { return Cost{}; }},
    Row{Collective::kAllReduce, "ring", [](int p, int n) {
      return Cost{2 * (p - 1), 2 * n / p * (p - 1), 2 * n / p * (p - 1), 2 * n / p};
    }},
    Row{Collective::kAllReduce, "doubling", doubling},
    Row{Collective::kAllReduce, "owner", [](int p, int n) {
      return Cost{2, 2 * n / p * (p - 1), 2 * n / p * (p - 1), n / p * (p - 1)};
    }},
    Row{Collective::kBroadcast, "local", [](int, int) { return Cost{}; }},
    Row{Collective::kBroadcast, "binomial", [](int p, int n) {
      return Cost{ceil_log2(p), n * ceil_log2(p), n, 0};
    }},
    Row{Collective::kBroadcast, "linear", [](int p, int n) { return Cost{1, n * (p - 1), n, 0}; }},
    Row{Collective::kAllGather, "local", [](int, int) { return Cost{}; }},
    Row{Collective::kAllGather, "ring", [](int p, int n) {
      return Cost{p - 1, n * (p - 1), n * (p - 1), 0};
    }},
    Row{Collective::kAllGather, "direct", [](int p, int n) {
      return Cost{1, n * (p - 1), n * (p - 1), 0};
    }},
    Row{Collective::kReduceScatter, "local", [](int, int) { return Cost{}; }},
    Row{Collective::kReduceScatter, "ring", [](int p, int n) {
      return Cost{p - 1, n * (p - 1), n * (p - 1), 3 * n};
    }},
    Row{Collective::kReduceScatter, "owner", [](int p, int n) {
      return Cost{1, n * (p - 1), n * (p - 1), n * (p - 1)};
    }},
    Row{Collective::kReduce, "owner", [](int p, int n) {
      return Cost{2, n, 2 * n / p * (p - 1), n};
    }},
    Row{Collective::kGather, "linear", [](int p, int n) { return Cost{1, n, n * (p - 1), 0}; }},
    Row{Collective::kScatter, "linear", [](int p, int n) { return Cost{1, n * (p - 1), n, 0}; }},
    Row{Collective::kAllToAll, "pairwise", [](int p, int n) {
      return Cost{1, n * (p - 1), n * (p - 1), 0};
    }},
    Row{Collective::kBarrier, "local", [](int, int) { return Cost{}; }},
    Row{Collective::kBarrier, "dissemination", [](int p, int) { return Cost{ceil_log2(p), 0, 0, 0}; }},
};
// clang-format on

TEST(PlanCostTest, IsWhatTheHeadersSay) {
  for (const Row& row : kRows) {
    const auto table = algorithms_of(row.collective);
    const auto algorithm = std::ranges::find(table, row.algorithm, &Algorithm::name);
    ASSERT_NE(algorithm, table.end()) << row.algorithm;
    for (int p = 2; p <= 33; ++p) {
      const int n = row.collective == Collective::kBarrier ? 0 : 3 * p;
      const PlanCase tested{.collective = row.collective,
                            .ranks = p,
                            .root = p / 2,
                            .elems = static_cast<std::size_t>(n),
                            .hosts = std::vector<int>(static_cast<std::size_t>(p), 0)};
      SCOPED_TRACE(std::string(row.algorithm) + " " + text_of(tested));
      const Played played = prove(tested, algorithm->order, plans_of(*algorithm, tested));
      const Cost cost = row.cost(p, n);
      const auto most = [](const std::vector<std::size_t>& elems) {
        return static_cast<int>(std::ranges::max(elems));
      };
      EXPECT_EQ(played.message_rounds, cost.rounds);
      EXPECT_EQ(most(played.sent_elems), cost.sent);
      EXPECT_EQ(most(played.received_elems), cost.received);
      EXPECT_EQ(most(played.scratch_elems), cost.scratch);
    }
  }
}

}  // namespace
}  // namespace treadle
