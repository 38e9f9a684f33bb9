#include "collectives/barrier/dissemination.h"

namespace treadle {

Plan dissemination_barrier(const PlanInput& input) {
  const int ranks = input.ranks;
  Plan plan;
  plan.early_rounds = 64;  // nothing is written
  for (int distance = 1; distance < ranks; distance *= 2) {
    plan.rounds.push_back(
        {.steps = {send_step((input.rank + distance) % ranks, in_chunk(0)),
                   recv_step((input.rank + ranks - distance) % ranks, out_chunk(0))}});
  }
  return plan;
}

}  // namespace treadle
