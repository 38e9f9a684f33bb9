#include "collectives/allgather/local.h"

namespace treadle {

Plan local_allgather(const PlanInput& input) {
  return {.in_chunks = 1,
          .out_chunks = input.ranks,
          .rounds = {{.steps = {local_step(LocalKind::kAllGather)}}}};
}

}  // namespace treadle
