#include "tests/collectives/plan_case.h"

#include <fmt/format.h>

#include <algorithm>

namespace treadle {
namespace {

std::size_t blocks(const PlanCase& tested) {
  return tested.elems * static_cast<std::size_t>(tested.ranks);
}

Buffers buffers_of(const PlanCase& tested, int rank) {
  const std::size_t n = tested.elems;
  const std::size_t all = blocks(tested);
  const std::size_t own = n * static_cast<std::size_t>(rank);
  const bool is_root = rank == tested.root;
  const auto in_and_out = [&](std::size_t in, std::size_t out) {
    return Buffers{.in_at = 0, .in_elems = in, .out_at = in, .out_elems = out};
  };
  switch (tested.collective) {
    case Collective::kAllReduce:
      return {.in_at = 0, .in_elems = n, .out_at = tested.in_place ? 0 : n, .out_elems = n};
    case Collective::kBroadcast:
      return {.in_at = 0, .in_elems = n, .out_at = 0, .out_elems = n};
    case Collective::kAllGather:
      return {.in_at = tested.in_place ? own : all, .in_elems = n, .out_at = 0, .out_elems = all};
    case Collective::kReduceScatter:
      return {.in_at = 0, .in_elems = all, .out_at = tested.in_place ? own : all, .out_elems = n};
    case Collective::kReduce:
      if (!is_root) return in_and_out(n, 0);
      return {.in_at = 0, .in_elems = n, .out_at = tested.in_place ? 0 : n, .out_elems = n};
    case Collective::kGather:
      return in_and_out(n, is_root ? all : 0);
    case Collective::kScatter:
      return in_and_out(is_root ? all : 0, n);
    case Collective::kAllToAll:
      return in_and_out(all, all);
    case Collective::kBarrier:
      return {};
  }
  return {};
}

// Ranks first, first + 1, … in a circle, added one after the other.
Term left_fold(Terms& terms, int ranks, int first) {
  Term sum = terms.input_of(first % ranks);
  for (int hop = 1; hop < ranks; ++hop)
    sum = terms.fold(sum, terms.input_of((first + hop) % ranks));
  return sum;
}

// Halves of the largest power of two that there are ranks; its first leaves are pairs of ranks, so
// that every rank has a place.
Term tree_fold(Terms& terms, int ranks) {
  int power = 1;
  while (2 * power <= ranks) power *= 2;
  std::vector<Term> level;
  for (int rank = 0; static_cast<int>(level.size()) < power; ++rank) {
    Term leaf = terms.input_of(rank);
    if (static_cast<int>(level.size()) < ranks - power) {
      leaf = terms.fold(leaf, terms.input_of(rank + 1));
      ++rank;
    }
    level.push_back(leaf);
  }
  while (level.size() > 1) {
    std::vector<Term> above;
    for (std::size_t i = 0; i < level.size(); i += 2)
      above.push_back(terms.fold(level[i], level[i + 1]));
    level = std::move(above);
  }
  return level.front();
}

// How the sum in a chunk of the whole input, cut into one per rank, must have been added.
Term promised_sum(Terms& terms, OrderClass order, const PlanCase& tested, int chunk) {
  switch (order) {
    case OrderClass::kRankOrder:
      return left_fold(terms, tested.ranks, 0);
    case OrderClass::kRing:
      // A block of reduce_scatter belongs to its rank; elsewhere chunk c ends at the rank before c.
      return left_fold(terms, tested.ranks,
                       tested.collective == Collective::kReduceScatter ? chunk + 1 : chunk);
    case OrderClass::kTree:
      return tree_fold(terms, tested.ranks);
    case OrderClass::kNone:
      break;
  }
  throw PlanFault("a sum needs an order class");
}

// The promised output of one rank; `sums` by chunk of the whole input.
std::vector<Cell> promised(const PlanCase& tested, int rank, const std::vector<Term>& sums) {
  const std::size_t n = tested.elems;
  const auto ranks = static_cast<std::size_t>(tested.ranks);
  const std::size_t own = n * static_cast<std::size_t>(rank);  // where this rank's block begins
  const bool is_root = rank == tested.root;
  std::vector<Cell> out;
  const auto add = [&](Term term, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) out.push_back({term, static_cast<std::uint32_t>(i)});
  };
  const auto add_from_each = [&](std::size_t from, std::size_t to) {
    for (int source = 0; source < tested.ranks; ++source) add(source, from, to);
  };
  switch (tested.collective) {
    case Collective::kReduce:
    case Collective::kAllReduce:
      if (tested.collective == Collective::kReduce && !is_root) break;
      for (std::size_t c = 0; c < ranks; ++c) add(sums[c], n * c / ranks, n * (c + 1) / ranks);
      break;
    case Collective::kReduceScatter:
      add(sums[static_cast<std::size_t>(rank)], own, own + n);
      break;
    case Collective::kBroadcast:
      add(tested.root, 0, n);
      break;
    case Collective::kScatter:
      add(tested.root, own, own + n);
      break;
    case Collective::kGather:
      if (is_root) add_from_each(0, n);
      break;
    case Collective::kAllGather:
      add_from_each(0, n);
      break;
    case Collective::kAllToAll:
      add_from_each(own, own + n);
      break;
    case Collective::kBarrier:
      break;
  }
  return out;
}

void compare(const Played& played, int ranks, int rank, const std::vector<Cell>& expected) {
  const std::vector<Cell>& out = played.outs[static_cast<std::size_t>(rank)];
  if (out.size() != expected.size())
    throw PlanFault(fmt::format("rank {} has {} elements", rank, out.size()));
  const auto [wrong, right] = std::ranges::mismatch(out, expected);
  if (wrong == out.end()) return;
  const bool is_sum = played.terms.ranks_in(right->term).size() > 1;
  std::string why = "holds the wrong element";
  if (wrong->term == kUnwritten) {
    why = "was never written";
  } else if (is_sum && wrong->index == right->index) {
    std::vector<int> once = played.terms.ranks_in(wrong->term);
    std::ranges::sort(once);
    std::vector<int> all(static_cast<std::size_t>(ranks));
    for (int r = 0; r < ranks; ++r) all[static_cast<std::size_t>(r)] = r;
    why = once == all ? "is added in another order" : "has not every rank once";
  }
  throw PlanFault(fmt::format(
      "rank {} out element {} {}: element {} of {}, not {} of {}", rank, wrong - out.begin(), why,
      wrong->index, played.terms.text(wrong->term), right->index, played.terms.text(right->term)));
}

// Nobody may leave a barrier before everybody has come to it.
void compare_barrier(const Played& played, int ranks) {
  for (int a = 0; a < ranks; ++a) {
    for (int b = 0; b < ranks; ++b) {
      if (a != b && played.heard[static_cast<std::size_t>(a)][static_cast<std::size_t>(b)] == 0)
        throw PlanFault(fmt::format("rank {} may leave before rank {} has come", a, b));
    }
  }
}

bool is_reduction(Collective collective) {
  return collective == Collective::kAllReduce || collective == Collective::kReduceScatter ||
         collective == Collective::kReduce;
}

}  // namespace

bool has_root(Collective collective) {
  return collective == Collective::kBroadcast || collective == Collective::kReduce ||
         collective == Collective::kGather || collective == Collective::kScatter;
}

bool has_in_place(Collective collective) {
  return is_reduction(collective) || collective == Collective::kAllGather;
}

std::string text_of(const PlanCase& tested) {
  return fmt::format("{} of {} elements, {} ranks{}, root {}{}", name_of(tested.collective),
                     tested.elems, tested.ranks, tested.hosts.empty() ? "" : " on shared hosts",
                     tested.root, tested.in_place ? ", in place" : "");
}

std::vector<Plan> plans_of(const Algorithm& algorithm, const PlanCase& tested) {
  std::vector<Plan> plans;
  for (int rank = 0; rank < tested.ranks; ++rank) {
    plans.push_back(algorithm.plan(
        {.rank = rank, .ranks = tested.ranks, .root = tested.root, .host_of_rank = tested.hosts}));
  }
  return plans;
}

Played prove(const PlanCase& tested, OrderClass order, std::span<const Plan> plans) {
  std::vector<Buffers> buffers;
  for (int rank = 0; rank < tested.ranks; ++rank) buffers.push_back(buffers_of(tested, rank));
  Played played = play(plans, buffers, tested.hosts, tested.root);
  std::vector<Term> sums;
  for (int chunk = 0; is_reduction(tested.collective) && chunk < tested.ranks; ++chunk)
    sums.push_back(promised_sum(played.terms, order, tested, chunk));
  for (int rank = 0; rank < tested.ranks; ++rank)
    compare(played, tested.ranks, rank, promised(tested, rank, sums));
  if (tested.collective == Collective::kBarrier) compare_barrier(played, tested.ranks);
  return played;
}

}  // namespace treadle
