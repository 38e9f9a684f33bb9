#include "collectives/allreduce/owner.h"

namespace treadle {

Plan owner_allreduce(const PlanInput& input) {
  const int ranks = input.ranks;
  const int rank = input.rank;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  // Everything may land early: an input goes to a scratch slot of its own; a finished chunk goes to
  // the output, even where that is the input too, because its owner finished it with this rank's
  // part of it in hand.
  Plan plan{.in_chunks = ranks,
            .out_chunks = ranks,
            .scratch_slots = ranks - 1,
            .lane_bytes = lane_bytes_of_fan_in(ranks),
            .early_rounds = 1};
  Round exchange;
  Round gather;
  std::vector<Place> operands;
  int slot = 0;
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank) {
      operands.push_back(in_chunk(rank));
      continue;
    }
    exchange.steps.push_back(send_step(peer, in_chunk(peer)));
    exchange.steps.push_back(recv_step(peer, scratch(slot)));
    operands.push_back(scratch(slot++));
    gather.steps.push_back(send_step(peer, out_chunk(rank)));
    gather.steps.push_back(recv_step(peer, out_chunk(peer)));
  }
  exchange.steps.push_back(reduce_step(out_chunk(rank), std::move(operands)));
  plan.rounds = {std::move(exchange), std::move(gather)};
  return plan;
}

}  // namespace treadle
