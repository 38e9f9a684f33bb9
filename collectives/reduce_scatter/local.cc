#include "collectives/reduce_scatter/local.h"

namespace treadle {

Plan local_reduce_scatter(const PlanInput& input) {
  return {.in_chunks = input.ranks,
          .out_chunks = 1,
          .rounds = {{.steps = {local_step(LocalKind::kReduceScatter)}}}};
}

}  // namespace treadle
