// All ranks share a host: direct broadcast in shared memory (collectives/local/local_group.h).
//
// One pass over all inputs; no messages.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan local_broadcast(const PlanInput& input);

}  // namespace treadle
