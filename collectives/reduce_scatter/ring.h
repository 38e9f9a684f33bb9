// Ring: the partial of every block travels once around and ends at its owner.
//
// For p ranks and blocks of n bytes, per rank: p-1 rounds, n(p-1) bytes sent, 3n scratch. Any p.
// The fold of block b starts at rank b+1 (kRing). The input is not modified: partials live in
// scratch.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan ring_reduce_scatter(const PlanInput& input);

}  // namespace treadle
