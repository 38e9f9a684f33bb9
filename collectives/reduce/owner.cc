#include "collectives/reduce/owner.h"

namespace treadle {

Plan owner_reduce(const PlanInput& input) {
  const int ranks = input.ranks;
  const int rank = input.rank;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  const bool is_root = rank == input.root;
  // Only the root has an output; the others finish their chunk in the last scratch slot.
  const Place finished = is_root ? out_chunk(rank) : scratch(ranks - 1);
  Plan plan{.in_chunks = ranks,
            .out_chunks = ranks,
            .scratch_slots = ranks,
            .lane_bytes = lane_bytes_of_fan_in(ranks),
            .early_rounds = 1};
  Round collect;
  if (is_root) {
    for (int hop = 1; hop < ranks; ++hop) {
      const int from = (rank + ranks - hop) % ranks;
      collect.steps.push_back(recv_step(from, out_chunk(from)));
    }
  } else {
    collect.steps.push_back(send_step(input.root, finished));
  }
  plan.rounds = {exchange_and_fold(rank, ranks, finished), std::move(collect)};
  return plan;
}

}  // namespace treadle
