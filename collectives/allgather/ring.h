// Ring: every block travels once around.
//
// For p ranks and blocks of n bytes, per rank: p-1 rounds, n(p-1) bytes sent, no scratch. Any p.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan ring_allgather(const PlanInput& input);

}  // namespace treadle
