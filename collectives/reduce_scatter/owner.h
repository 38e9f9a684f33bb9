// Direct exchange: every rank collects its block of every input and folds them in rank order.
//
// For p ranks and blocks of n bytes, per rank: 1 round, n(p-1) bytes sent, n(p-1) scratch. Any p;
// best for few ranks. The fold is the left fold in rank order (kRankOrder).
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan owner_reduce_scatter(const PlanInput& input);

}  // namespace treadle
