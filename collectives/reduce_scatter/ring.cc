#include "collectives/reduce_scatter/ring.h"

namespace treadle {

Plan ring_reduce_scatter(const PlanInput& input) {
  const int ranks = input.ranks;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  const int right = (input.rank + 1) % ranks;
  const int left = (input.rank + ranks - 1) % ranks;
  // Hop h carries the partial of the block that ends ranks-1-h hops further on.
  const auto block = [&](int hop) { return (input.rank - 1 - hop + 2 * ranks) % ranks; };
  // What arrives uses slots 0 and 1 in turn; what leaves is in slot 2.
  Plan plan{.in_chunks = ranks, .out_chunks = 1, .scratch_slots = 3, .early_rounds = 1};
  for (int hop = 0; hop < ranks - 1; ++hop) {
    const Place slot = scratch(hop % 2);
    const bool last = hop == ranks - 2;
    plan.rounds.push_back(
        {.steps = {
             send_step(right, hop == 0 ? in_chunk(block(0)) : scratch(2)), recv_step(left, slot),
             reduce_step(last ? out_chunk(0) : scratch(2), {slot, in_chunk(block(hop + 1))})}});
  }
  return plan;
}

}  // namespace treadle
