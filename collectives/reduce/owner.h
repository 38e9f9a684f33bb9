// Direct exchange: rank j folds chunk j of every input in rank order and sends it to the root.
//
// For p ranks and n bytes, per rank: 2 rounds, about n bytes sent, n scratch (the root receives
// about 2n). Any p. The fold is the left fold in rank order (kRankOrder).
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan owner_reduce(const PlanInput& input);

}  // namespace treadle
