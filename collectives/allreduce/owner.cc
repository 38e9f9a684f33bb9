#include "collectives/allreduce/owner.h"

namespace treadle {

Plan owner_allreduce(const PlanInput& input) {
  const int ranks = input.ranks;
  const int rank = input.rank;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  // Everything may land early: an input goes to a scratch slot of its own; a finished chunk goes to
  // the output, even where that is the input too, because its owner finished it with this rank's
  // part of it in hand.
  Plan plan{.in_chunks = ranks,
            .out_chunks = ranks,
            .scratch_slots = ranks - 1,
            .lane_bytes = lane_bytes_of_fan_in(ranks),
            .early_rounds = 1};
  Round gather;
  for (int hop = 1; hop < ranks; ++hop) {
    const int from = (rank + ranks - hop) % ranks;
    gather.steps.push_back(send_step((rank + hop) % ranks, out_chunk(rank)));
    gather.steps.push_back(recv_step(from, out_chunk(from)));
  }
  plan.rounds = {exchange_and_fold(rank, ranks, out_chunk(rank)), std::move(gather)};
  return plan;
}

}  // namespace treadle
