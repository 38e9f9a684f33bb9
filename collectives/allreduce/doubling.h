// Recursive doubling: in every round each rank exchanges all it has with a partner twice as far
// away.
//
// For p = 2^k ranks and n bytes, per rank: k rounds, n k bytes sent, one scratch slot of n. Best
// for small n. Where 2^k < p < 2^(k+1), the first 2(p - 2^k) ranks pair up: the even one hands its
// input to its neighbour before, and gets the result after, the doubling among the remaining 2^k.
// That makes k + 2 rounds, and n(k + 1) bytes sent by the neighbour. The lower half is always the
// left operand, so all ranks compute the same bytes (kTree). Thakur, Rabenseifner and Gropp,
// "Optimization of collective communication operations in MPICH", IJHPCA 2005.
#pragma once
#include "collectives/plan.h"

namespace treadle {

Plan doubling_allreduce(const PlanInput& input);

}  // namespace treadle
