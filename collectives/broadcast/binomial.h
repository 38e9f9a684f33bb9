// Binomial tree: in round r the 2^r ranks that have the data pass it on.
//
// For p ranks and n bytes: ceil(log2 p) rounds; a rank sends n at most log2 p times. Any p. Large
// buffers are pipelined by the executor's lanes.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan binomial_broadcast(const PlanInput& input);

}  // namespace treadle
