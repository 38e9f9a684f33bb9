// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/gather/linear.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"linear", "1 round; the root receives n(p-1) bytes", OrderClass::kNone, any_ranks,
              linear_gather},
};

}  // namespace

std::span<const Algorithm> gather_algorithms() { return kAlgorithms; }

}  // namespace treadle
