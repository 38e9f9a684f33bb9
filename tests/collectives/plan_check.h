// Proves plans by playing all ranks' plans together: no bytes, transport or threads.
//
// Every element of every buffer holds a term: which ranks' inputs have been folded into it, in
// which order. Each rank goes on as soon as what its round receives has been sent, as in the
// executor. play() throws PlanFault for: a wait that never ends; a message that nobody receives, or
// of another size than its place; two messages between the same ranks in a round, which have one
// name; a read of what nobody wrote; a place that is not there, or in the input where something is
// written; folds of different elements or sizes; receives into memory that the same round sends or
// receives; a message that `early_rounds` lets land in memory still in use (judged by what must
// have happened before, not by one schedule).
//
// A local step acts at once on all ranks of a host: as LocalGroup does, in rank order.
#pragma once
#include <span>
#include <vector>

#include "collectives/plan.h"
#include "tests/collectives/plan_memory.h"
#include "tests/collectives/plan_terms.h"

namespace treadle {

struct Played {
  explicit Played(int ranks) : terms(ranks) {}
  Terms terms;
  std::vector<std::vector<Cell>> outs = {};  // by rank
  // heard[a][b]: how many rounds rank b must have begun before rank a can end.
  std::vector<std::vector<int>> heard = {};
  // What it cost.
  int message_rounds = 0;                        // rounds in which anybody sends
  std::vector<std::size_t> sent_elems = {};      // by rank
  std::vector<std::size_t> received_elems = {};  // by rank
  std::vector<std::size_t> scratch_elems = {};   // by rank
};

// `hosts` and `root` as in PlanInput. Throws PlanFault.
Played play(std::span<const Plan> plans, std::span<const Buffers> buffers,
            std::span<const int> hosts = {}, int root = 0);

}  // namespace treadle
