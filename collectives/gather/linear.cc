#include "collectives/gather/linear.h"

namespace treadle {

Plan linear_gather(const PlanInput& input) {
  if (input.rank != input.root) {
    return {.in_chunks = 1,
            .out_chunks = 1,
            .rounds = {{.steps = {send_step(input.root, in_chunk(0))}}}};
  }
  Plan plan{.out_chunks = input.ranks};
  Round round;
  for (int peer = 0; peer < input.ranks; ++peer) {
    if (peer != input.root) round.steps.push_back(recv_step(peer, out_chunk(peer)));
  }
  round.steps.push_back(copy_step(out_chunk(input.root), in_chunk(0)));
  plan.rounds = {std::move(round)};
  return plan;
}

}  // namespace treadle
