// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/barrier/dissemination.h"
#include "collectives/barrier/local.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"local", "one host: in shared memory, no messages", OrderClass::kNone, one_host,
              local_barrier},
    Algorithm{"dissemination", "log2(p) rounds of empty messages", OrderClass::kNone, any_ranks,
              dissemination_barrier},
};

}  // namespace

std::span<const Algorithm> barrier_algorithms() { return kAlgorithms; }

}  // namespace treadle
