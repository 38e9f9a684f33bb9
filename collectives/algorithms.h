// The tables of algorithms, one per collective, in order of preference of nobody: selection.cc
// chooses.
//
// Chunks by collective, for P ranks:   in_chunks            out_chunks
//   allreduce                          any (the same)       any
//   broadcast                          any (in is out)      any
//   all_gather                         1                    P
//   reduce_scatter                     P                    1
//   reduce                             any (the same)       any; only root's output is written
//   gather                             1                    P on root; others have no output
//   scatter                            P on root            1
//   all_to_all                         P                    P
//   barrier                            1 of zero bytes      1 of zero bytes
#pragma once
#include <span>

#include "collectives/plan.h"

namespace treadle {

enum class Collective : std::uint8_t {
  kAllReduce,
  kBroadcast,
  kAllGather,
  kReduceScatter,
  kReduce,
  kGather,
  kScatter,
  kAllToAll,
  kBarrier,
};
inline constexpr int kCollectives = 9;

std::string_view name_of(Collective collective);  // "all_reduce"

std::span<const Algorithm> allreduce_algorithms();       // allreduce/allreduce.cc
std::span<const Algorithm> broadcast_algorithms();       // broadcast/broadcast.cc
std::span<const Algorithm> allgather_algorithms();       // allgather/allgather.cc
std::span<const Algorithm> reduce_scatter_algorithms();  // reduce_scatter/reduce_scatter.cc
std::span<const Algorithm> reduce_algorithms();          // reduce/reduce.cc
std::span<const Algorithm> gather_algorithms();          // gather/gather.cc
std::span<const Algorithm> scatter_algorithms();         // scatter/scatter.cc
std::span<const Algorithm> alltoall_algorithms();        // alltoall/alltoall.cc
std::span<const Algorithm> barrier_algorithms();         // barrier/barrier.cc

std::span<const Algorithm> algorithms_of(Collective collective);

}  // namespace treadle
