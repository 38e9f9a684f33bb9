#include "collectives/barrier/local.h"

namespace treadle {

Plan local_barrier(const PlanInput&) {
  return {
      .in_chunks = 1, .out_chunks = 1, .rounds = {{.steps = {local_step(LocalKind::kBarrier)}}}};
}

}  // namespace treadle
