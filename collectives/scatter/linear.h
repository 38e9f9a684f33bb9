// The root sends every rank its block.
//
// For p ranks and blocks of n bytes: 1 round, n(p-1) bytes sent by the root.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan linear_scatter(const PlanInput& input);

}  // namespace treadle
