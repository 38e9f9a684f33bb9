// To add an algorithm: write its two files, then one row here. The tests read this table.
#include <array>

#include "collectives/algorithms.h"
#include "collectives/scatter/linear.h"

namespace treadle {
namespace {

constexpr std::array kAlgorithms = {
    Algorithm{"linear", "1 round; the root sends n(p-1) bytes", OrderClass::kNone, any_ranks,
              linear_scatter},
};

}  // namespace

std::span<const Algorithm> scatter_algorithms() { return kAlgorithms; }

}  // namespace treadle
