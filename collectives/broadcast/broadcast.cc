// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/broadcast/binomial.h"
#include "collectives/broadcast/linear.h"
#include "collectives/broadcast/local.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"local", "one host: one copy in, one copy out in shared memory", OrderClass::kNone,
              one_host, local_broadcast},
    Algorithm{"binomial", "log2(p) rounds, at most n log2(p) bytes; any size", OrderClass::kNone,
              any_ranks, binomial_broadcast},
    Algorithm{"linear", "1 round, n(p-1) bytes from the root; two or three ranks",
              OrderClass::kNone, any_ranks, linear_broadcast},
};

}  // namespace

std::span<const Algorithm> broadcast_algorithms() { return kAlgorithms; }

}  // namespace treadle
