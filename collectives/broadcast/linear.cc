#include "collectives/broadcast/linear.h"

namespace treadle {

Plan linear_broadcast(const PlanInput& input) {
  Round round;
  if (input.rank != input.root) {
    round.steps = {recv_step(input.root, out_chunk(0))};
  } else {
    for (int peer = 0; peer < input.ranks; ++peer) {
      if (peer != input.root) round.steps.push_back(send_step(peer, in_chunk(0)));
    }
    round.steps.push_back(copy_step(out_chunk(0), in_chunk(0)));
  }
  return Plan{.rounds = {std::move(round)}};
}

}  // namespace treadle
