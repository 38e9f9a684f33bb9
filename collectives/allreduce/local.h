// All ranks share a host: direct allreduce in shared memory (collectives/local/local_group.h).
//
// One pass over all inputs; no messages.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan local_allreduce(const PlanInput& input);

}  // namespace treadle
