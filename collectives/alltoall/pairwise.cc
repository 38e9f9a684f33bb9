#include "collectives/alltoall/pairwise.h"

namespace treadle {

Plan pairwise_alltoall(const PlanInput& input) {
  Plan plan{.in_chunks = input.ranks, .out_chunks = input.ranks};
  Round round;
  // Starting behind oneself spreads the first messages over the receivers.
  for (int hop = 1; hop < input.ranks; ++hop) {
    const int to = (input.rank + hop) % input.ranks;
    const int from = (input.rank + input.ranks - hop) % input.ranks;
    round.steps.push_back(send_step(to, in_chunk(to)));
    round.steps.push_back(recv_step(from, out_chunk(from)));
  }
  round.steps.push_back(copy_step(out_chunk(input.rank), in_chunk(input.rank)));
  plan.rounds = {std::move(round)};
  return plan;
}

}  // namespace treadle
