#include "collectives/reduce_scatter/owner.h"

namespace treadle {

Plan owner_reduce_scatter(const PlanInput& input) {
  const int ranks = input.ranks;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  Plan plan{.in_chunks = ranks,
            .out_chunks = 1,
            .scratch_slots = ranks - 1,
            .lane_bytes = lane_bytes_of_fan_in(ranks)};
  plan.rounds = {exchange_and_fold(input.rank, ranks, out_chunk(0))};
  return plan;
}

}  // namespace treadle
