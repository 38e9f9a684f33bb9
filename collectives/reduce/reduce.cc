// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/reduce/owner.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"owner", "2 rounds, about n bytes, n scratch", OrderClass::kRankOrder, any_ranks,
              owner_reduce},
};

}  // namespace

std::span<const Algorithm> reduce_algorithms() { return kAlgorithms; }

}  // namespace treadle
