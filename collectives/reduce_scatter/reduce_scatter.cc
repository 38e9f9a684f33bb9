// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/reduce_scatter/local.h"
#include "collectives/reduce_scatter/owner.h"
#include "collectives/reduce_scatter/ring.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"local", "one host: one pass in shared memory, no messages", OrderClass::kRankOrder,
              one_host, local_reduce_scatter},
    Algorithm{"ring", "p-1 rounds, n(p-1) bytes, 3n scratch; many ranks", OrderClass::kRing,
              any_ranks, ring_reduce_scatter},
    Algorithm{"owner", "1 round, n(p-1) bytes, n(p-1) scratch; few ranks", OrderClass::kRankOrder,
              any_ranks, owner_reduce_scatter},
};

}  // namespace

std::span<const Algorithm> reduce_scatter_algorithms() { return kAlgorithms; }

}  // namespace treadle
