#include "collectives/reduce/owner.h"

namespace treadle {

Plan owner_reduce(const PlanInput& input) {
  const int ranks = input.ranks;
  const int rank = input.rank;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  const bool is_root = rank == input.root;
  // Only the root has an output; the others finish their chunk in the last scratch slot.
  const Place finished = is_root ? out_chunk(rank) : scratch(ranks - 1);
  Plan plan{.in_chunks = ranks,
            .out_chunks = ranks,
            .scratch_slots = ranks,
            .lane_bytes = lane_bytes_of_fan_in(ranks),
            .early_rounds = 1};
  Round exchange;
  Round collect;
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
    if (is_root) collect.steps.push_back(recv_step(peer, out_chunk(peer)));
  }
  exchange.steps.push_back(reduce_step(finished, std::move(operands)));
  if (!is_root) collect.steps.push_back(send_step(input.root, finished));
  plan.rounds = {std::move(exchange), std::move(collect)};
  return plan;
}

}  // namespace treadle
