#include "collectives/broadcast/local.h"

namespace treadle {

Plan local_broadcast(const PlanInput&) {
  return {
      .in_chunks = 1, .out_chunks = 1, .rounds = {{.steps = {local_step(LocalKind::kBroadcast)}}}};
}

}  // namespace treadle
