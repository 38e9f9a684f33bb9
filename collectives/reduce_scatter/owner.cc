#include "collectives/reduce_scatter/owner.h"

namespace treadle {

Plan owner_reduce_scatter(const PlanInput& input) {
  const int ranks = input.ranks;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  Plan plan{.in_chunks = ranks,
            .out_chunks = 1,
            .scratch_slots = ranks - 1,
            .lane_bytes = lane_bytes_of_fan_in(ranks)};
  Round round;
  std::vector<Place> operands;
  int slot = 0;
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == input.rank) {
      operands.push_back(in_chunk(peer));
      continue;
    }
    round.steps.push_back(send_step(peer, in_chunk(peer)));
    round.steps.push_back(recv_step(peer, scratch(slot)));
    operands.push_back(scratch(slot++));
  }
  round.steps.push_back(reduce_step(out_chunk(0), std::move(operands)));
  plan.rounds = {std::move(round)};
  return plan;
}

}  // namespace treadle
