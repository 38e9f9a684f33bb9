#include "collectives/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::uint64_t kAny = ~std::uint64_t{0};
constexpr int kManyRanks = 1 << 30;

// The first row that fits wins. Measured with bench/treadle-perf over loopback tcp;
// docs/performance.md.
struct Rule {
  Collective collective;
  std::uint64_t up_to_bytes;
  int up_to_ranks;
  std::string_view algorithm;
};
constexpr std::array kRules = {
    Rule{Collective::kAllReduce, 16 << 10, kManyRanks, "doubling"},
    Rule{Collective::kAllReduce, kAny, 8, "owner"},
    Rule{Collective::kAllReduce, kAny, kManyRanks, "ring"},
    Rule{Collective::kBroadcast, kAny, kManyRanks, "binomial"},
    Rule{Collective::kAllGather, kAny, 8, "direct"},
    Rule{Collective::kAllGather, kAny, kManyRanks, "ring"},
    Rule{Collective::kReduceScatter, kAny, 8, "owner"},
    Rule{Collective::kReduceScatter, kAny, kManyRanks, "ring"},
    Rule{Collective::kReduce, kAny, kManyRanks, "owner"},
    Rule{Collective::kGather, kAny, kManyRanks, "linear"},
    Rule{Collective::kScatter, kAny, kManyRanks, "linear"},
    Rule{Collective::kAllToAll, kAny, kManyRanks, "pairwise"},
    Rule{Collective::kBarrier, kAny, kManyRanks, "dissemination"},
};

const Algorithm* find(std::span<const Algorithm> table, std::string_view name) {
  const auto row = std::ranges::find(table, name, &Algorithm::name);
  return row == table.end() ? nullptr : &*row;
}

std::string names_of(std::span<const Algorithm> table) {
  std::string names = "auto";
  for (const Algorithm& row : table) names += fmt::format(", {}", row.name);
  return names;
}

}  // namespace

void check_algorithm_name(Collective collective, std::string_view wanted) {
  if (wanted == "auto" || find(algorithms_of(collective), wanted) != nullptr) return;
  throw std::invalid_argument(fmt::format("{} algorithm '{}' does not exist; there are {}",
                                          name_of(collective), wanted,
                                          names_of(algorithms_of(collective))));
}

std::string_view configured_algorithm(const Config& config, Collective collective) {
  switch (collective) {
    case Collective::kAllReduce:
      return config.allreduce;
    case Collective::kBroadcast:
      return config.broadcast;
    case Collective::kAllGather:
      return config.allgather;
    case Collective::kReduceScatter:
      return config.reduce_scatter;
    default:
      return "auto";
  }
}

void check_algorithm_names(const Config& config) {
  for (int i = 0; i < kCollectives; ++i) {
    const auto collective = static_cast<Collective>(i);
    check_algorithm_name(collective, configured_algorithm(config, collective));
  }
}

const Algorithm& select_algorithm(const SelectionInput& input, std::string_view wanted) {
  const auto table = algorithms_of(input.collective);
  if (wanted != "auto") {
    check_algorithm_name(input.collective, wanted);
    const Algorithm* row = find(table, wanted);
    if (!row->accepts(input.plan)) {
      throw Error(ErrorCode::kUnsupported,
                  "{} algorithm '{}' needs all ranks on one host, with shared memory; use auto or "
                  "another of {}",
                  name_of(input.collective), wanted, names_of(table));
    }
    return *row;
  }
  if (const Algorithm* local = find(table, "local");
      local != nullptr && local->accepts(input.plan)) {
    return *local;
  }
  for (const Rule& rule : kRules) {
    if (rule.collective == input.collective && input.bytes <= rule.up_to_bytes &&
        input.plan.ranks <= rule.up_to_ranks) {
      if (const Algorithm* row = find(table, rule.algorithm)) return *row;
    }
  }
  return table.front();
}

}  // namespace treadle
