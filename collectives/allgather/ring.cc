#include "collectives/allgather/ring.h"

namespace treadle {

Plan ring_allgather(const PlanInput& input) {
  const int ranks = input.ranks;
  const int right = (input.rank + 1) % ranks;
  const int left = (input.rank + ranks - 1) % ranks;
  const auto behind = [&](int hops) { return (input.rank - hops + 2 * ranks) % ranks; };
  // Every block has a place of its own, written once.
  Plan plan{.out_chunks = ranks, .early_rounds = ranks};
  plan.rounds.push_back({.steps = {copy_step(out_chunk(input.rank), in_chunk(0))}});
  for (int hop = 0; hop < ranks - 1; ++hop) {
    plan.rounds.push_back({.steps = {send_step(right, out_chunk(behind(hop))),
                                     recv_step(left, out_chunk(behind(hop + 1)))}});
  }
  return plan;
}

}  // namespace treadle
