// All ranks share a host: direct reduce-scatter in shared memory (collectives/local/local_group.h).
//
// One pass over all inputs; no messages.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan local_reduce_scatter(const PlanInput& input);

}  // namespace treadle
