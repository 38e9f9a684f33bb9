// Direct exchange: rank j collects chunk j of every input, folds them in rank order, and sends the
// result to all.
//
// For p ranks and n bytes, per rank: 2 rounds, 2n(p-1)/p bytes sent, p-1 scratch slots of n/p. Any
// p; best for few ranks. The fold is the left fold in rank order whatever the size (kRankOrder), so
// 16-bit types round once.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan owner_allreduce(const PlanInput& input);

}  // namespace treadle
