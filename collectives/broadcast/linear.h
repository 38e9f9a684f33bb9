// The root sends everything to everybody.
//
// For p ranks and n bytes: 1 round; the root sends n(p-1) bytes. Best for two or three ranks.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan linear_broadcast(const PlanInput& input);

}  // namespace treadle
