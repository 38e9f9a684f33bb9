#include "collectives/allgather/direct.h"

namespace treadle {

Plan direct_allgather(const PlanInput& input) {
  Plan plan{.out_chunks = input.ranks};
  Round round;
  for (int hop = 1; hop < input.ranks; ++hop) {
    const int from = (input.rank + input.ranks - hop) % input.ranks;
    round.steps.push_back(send_step((input.rank + hop) % input.ranks, in_chunk(0)));
    round.steps.push_back(recv_step(from, out_chunk(from)));
  }
  round.steps.push_back(copy_step(out_chunk(input.rank), in_chunk(0)));
  plan.rounds = {std::move(round)};
  return plan;
}

}  // namespace treadle
