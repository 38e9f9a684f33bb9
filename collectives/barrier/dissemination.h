// Dissemination: in round r every rank signals the one 2^r further on.
//
// For p ranks: ceil(log2 p) rounds, one empty message per rank and round. Any p.
// Hensgen, Finkel and Manber, "Two algorithms for barrier synchronization", 1988.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan dissemination_barrier(const PlanInput& input);

}  // namespace treadle
