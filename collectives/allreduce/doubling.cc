#include "collectives/allreduce/doubling.h"

namespace treadle {

Plan doubling_allreduce(const PlanInput& input) {
  const int ranks = input.ranks;
  const int rank = input.rank;
  if (ranks == 1) return {.rounds = {{.steps = {reduce_step(out_chunk(0), {in_chunk(0)})}}}};
  int power = 1;
  while (2 * power <= ranks) power *= 2;
  const int extra = ranks - power;
  const bool paired = rank < 2 * extra;
  const bool leads = paired && rank % 2 == 0;  // hands over its input and waits

  Plan plan{.scratch_slots = 1};
  // What this rank has so far; the input until something has been folded into the output.
  Place mine = in_chunk(0);
  if (extra > 0) {
    Round round;
    if (leads) {
      round.steps = {send_step(rank + 1, in_chunk(0))};
    } else if (paired) {
      round.steps = {recv_step(rank - 1, scratch(0)),
                     reduce_step(out_chunk(0), {scratch(0), in_chunk(0)})};
      mine = out_chunk(0);
    }
    plan.rounds.push_back(round);
  }
  const int place = paired ? rank / 2 : rank - extra;  // among the `power` that double
  const auto rank_at = [&](int at) { return at < extra ? 2 * at + 1 : at + extra; };
  for (int distance = 1; distance < power; distance *= 2) {
    Round round;
    if (!leads) {
      const int partner_place = place ^ distance;
      const int partner = rank_at(partner_place);
      auto operands =
          partner_place < place ? std::vector{scratch(0), mine} : std::vector{mine, scratch(0)};
      round.steps = {send_step(partner, mine), recv_step(partner, scratch(0)),
                     reduce_step(out_chunk(0), std::move(operands))};
      mine = out_chunk(0);
    }
    plan.rounds.push_back(round);
  }
  if (extra > 0) {
    Round round;
    if (leads) round.steps = {recv_step(rank + 1, out_chunk(0))};
    if (paired && !leads) round.steps = {send_step(rank - 1, out_chunk(0))};
    plan.rounds.push_back(round);
  }
  return plan;
}

}  // namespace treadle
