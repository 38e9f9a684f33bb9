// All ranks share a host: direct barrier in shared memory (collectives/local/local_group.h).
//
// One pass over all inputs; no messages.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan local_barrier(const PlanInput& input);

}  // namespace treadle
