// Ring all-reduce: reduce-scatter around the ring, then all-gather around it.
//
// For p ranks and n bytes, per rank: 2(p-1) rounds, 2n(p-1)/p bytes sent, two scratch slots of n/p.
// Any p. The fold of a chunk starts at the rank behind its owner, so its order depends on the chunk
// (kRing). Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 2009.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan ring_allreduce(const PlanInput& input);

}  // namespace treadle
