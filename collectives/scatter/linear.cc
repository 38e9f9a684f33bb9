#include "collectives/scatter/linear.h"

namespace treadle {

Plan linear_scatter(const PlanInput& input) {
  if (input.rank != input.root) {
    return {.in_chunks = 1,
            .out_chunks = 1,
            .rounds = {{.steps = {recv_step(input.root, out_chunk(0))}}}};
  }
  Plan plan{.in_chunks = input.ranks};
  Round round;
  for (int peer = 0; peer < input.ranks; ++peer) {
    if (peer != input.root) round.steps.push_back(send_step(peer, in_chunk(peer)));
  }
  round.steps.push_back(copy_step(out_chunk(0), in_chunk(input.root)));
  plan.rounds = {std::move(round)};
  return plan;
}

}  // namespace treadle
