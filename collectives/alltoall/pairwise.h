// Every rank sends every other its block, all at once.
//
// For p ranks and blocks of n bytes, per rank: 1 round, n(p-1) bytes sent, no scratch.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan pairwise_alltoall(const PlanInput& input);

}  // namespace treadle
