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
  // Each rank begins with its right neighbour, so that nobody is flooded by all others at once.
  for (int distance = 1; distance < ranks; ++distance) {
    const int to = (rank + distance) % ranks;
    const int from = (rank - distance + ranks) % ranks;
    exchange.steps.push_back(send_step(to, in_chunk(to)));
    exchange.steps.push_back(recv_step(from, scratch(from < rank ? from : from - 1)));
    gather.steps.push_back(send_step(to, out_chunk(rank)));
    gather.steps.push_back(recv_step(from, out_chunk(from)));
  }
  std::vector<Place> operands;
  for (int r = 0; r < ranks; ++r)
    operands.push_back(r == rank ? in_chunk(rank) : scratch(r < rank ? r : r - 1));
  exchange.steps.push_back(reduce_step(out_chunk(rank), std::move(operands)));
  plan.rounds = {std::move(exchange), std::move(gather)};
  return plan;
}

}  // namespace treadle
