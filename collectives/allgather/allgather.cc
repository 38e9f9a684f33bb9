// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/allgather/direct.h"
#include "collectives/allgather/local.h"
#include "collectives/allgather/ring.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"local", "one host: one copy in, one copy out in shared memory", OrderClass::kNone,
              one_host, local_allgather},
    Algorithm{"ring", "p-1 rounds, n(p-1) bytes; many ranks", OrderClass::kNone, any_ranks,
              ring_allgather},
    Algorithm{"direct", "1 round, n(p-1) bytes; few ranks", OrderClass::kNone, any_ranks,
              direct_allgather},
};

}  // namespace

std::span<const Algorithm> allgather_algorithms() { return kAlgorithms; }

}  // namespace treadle
