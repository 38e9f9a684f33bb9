#include "collectives/allreduce/ring.h"

namespace treadle {

Plan ring_allreduce(const PlanInput& input) {
  const int ranks = input.ranks;
  const int rank = input.rank;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  const int right = (rank + 1) % ranks;
  const int left = (rank + ranks - 1) % ranks;
  // The chunk that was this rank's own `hops` hops ago.
  const auto behind = [&](int hops) { return (rank - hops + 2 * ranks) % ranks; };

  // A message of the next round may land early: it uses the other scratch slot, or, in the second
  // half, the place of a chunk that its sender could finish only after this rank had passed it on.
  Plan plan{.in_chunks = ranks, .out_chunks = ranks, .scratch_slots = 2, .early_rounds = 1};
  for (int hop = 0; hop < ranks - 1; ++hop) {
    const int arriving = behind(hop + 1);
    const Place slot = scratch(hop % 2);
    const Place leaving = hop == 0 ? in_chunk(behind(0)) : out_chunk(behind(hop));
    plan.rounds.push_back(
        {.steps = {send_step(right, leaving), recv_step(left, slot),
                   reduce_step(out_chunk(arriving), {slot, in_chunk(arriving)})}});
  }
  // Here this rank holds the finished chunk behind(ranks - 1), which is behind(-1).
  for (int hop = 0; hop < ranks - 1; ++hop) {
    plan.rounds.push_back({.steps = {send_step(right, out_chunk(behind(hop - 1))),
                                     recv_step(left, out_chunk(behind(hop)))}});
  }
  return plan;
}

}  // namespace treadle
