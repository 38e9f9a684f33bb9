#include "collectives/broadcast/binomial.h"

namespace treadle {

Plan binomial_broadcast(const PlanInput& input) {
  const int ranks = input.ranks;
  // Ranks as seen from the root.
  const int here = (input.rank - input.root + ranks) % ranks;
  const auto rank_at = [&](int at) { return (at + input.root) % ranks; };
  Plan plan;
  if (here == 0)
    plan.rounds.push_back({.steps = {copy_step(out_chunk(0), in_chunk(0))}});
  else
    plan.rounds.push_back({});
  for (int have = 1; have < ranks; have *= 2) {
    Round round;
    if (here < have && here + have < ranks) {
      round.steps = {send_step(rank_at(here + have), out_chunk(0))};
    } else if (here >= have && here < 2 * have) {
      round.steps = {recv_step(rank_at(here - have), out_chunk(0))};
    }
    plan.rounds.push_back(round);
  }
  // The only message a rank receives may come at any time.
  plan.early_rounds = static_cast<int>(plan.rounds.size());
  return plan;
}

}  // namespace treadle
