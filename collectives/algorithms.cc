#include "collectives/algorithms.h"

#include <array>

namespace treadle {

std::string_view name_of(Collective collective) {
  static constexpr std::array<std::string_view, kCollectives> kNames = {
      "all_reduce", "broadcast", "all_gather", "reduce_scatter", "reduce",
      "gather",     "scatter",   "all_to_all", "barrier"};
  return kNames.at(static_cast<std::size_t>(collective));
}

std::span<const Algorithm> algorithms_of(Collective collective) {
  switch (collective) {
    case Collective::kAllReduce:
      return allreduce_algorithms();
    case Collective::kBroadcast:
      return broadcast_algorithms();
    case Collective::kAllGather:
      return allgather_algorithms();
    case Collective::kReduceScatter:
      return reduce_scatter_algorithms();
    case Collective::kReduce:
      return reduce_algorithms();
    case Collective::kGather:
      return gather_algorithms();
    case Collective::kScatter:
      return scatter_algorithms();
    case Collective::kAllToAll:
      return alltoall_algorithms();
    case Collective::kBarrier:
      return barrier_algorithms();
  }
  return {};
}

}  // namespace treadle
