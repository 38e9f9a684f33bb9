#include "collectives/allgather/direct.h"

namespace treadle {

Plan direct_allgather(const PlanInput& input) {
  Plan plan{.out_chunks = input.ranks};
  Round round;
  for (int peer = 0; peer < input.ranks; ++peer) {
    if (peer == input.rank) continue;
    round.steps.push_back(send_step(peer, in_chunk(0)));
    round.steps.push_back(recv_step(peer, out_chunk(peer)));
  }
  round.steps.push_back(copy_step(out_chunk(input.rank), in_chunk(0)));
  plan.rounds = {std::move(round)};
  return plan;
}

}  // namespace treadle
