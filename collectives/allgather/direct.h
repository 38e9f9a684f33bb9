// Every rank sends its block to every other.
//
// For p ranks and blocks of n bytes, per rank: 1 round, n(p-1) bytes sent, no scratch. Any p; best
// for few ranks.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan direct_allgather(const PlanInput& input);

}  // namespace treadle
