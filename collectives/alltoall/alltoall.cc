// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/alltoall/pairwise.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"pairwise", "1 round, n(p-1) bytes", OrderClass::kNone, any_ranks, pairwise_alltoall},
};

}  // namespace

std::span<const Algorithm> alltoall_algorithms() { return kAlgorithms; }

}  // namespace treadle
