// Every rank sends its block to the root.
//
// For p ranks and blocks of n bytes: 1 round, n bytes sent per rank, n(p-1) received by the root.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan linear_gather(const PlanInput& input);

}  // namespace treadle
