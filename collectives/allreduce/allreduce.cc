// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/allreduce/doubling.h"
#include "collectives/allreduce/local.h"
#include "collectives/allreduce/owner.h"
#include "collectives/allreduce/ring.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"local", "one host: one pass in shared memory, no messages", OrderClass::kRankOrder,
              one_host, local_allreduce},
    Algorithm{"ring", "2(p-1) rounds, 2n(p-1)/p bytes, 2n/p scratch; large buffers, many ranks",
              OrderClass::kRing, any_ranks, ring_allreduce},
    Algorithm{"doubling", "about log2(p) rounds, n log2(p) bytes, n scratch; small buffers",
              OrderClass::kTree, any_ranks, doubling_allreduce},
    Algorithm{"owner", "2 rounds, 2n(p-1)/p bytes, n(p-1)/p scratch; few ranks",
              OrderClass::kRankOrder, any_ranks, owner_allreduce},
};

}  // namespace

std::span<const Algorithm> allreduce_algorithms() { return kAlgorithms; }

}  // namespace treadle
