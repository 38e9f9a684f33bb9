// Ranks as child processes on this host.
#pragma once
#include <functional>

#include "bench/treadle-perf/launch.h"

namespace treadle {

// Forks `ranks` processes, each of which runs `body` and exits with what it returns; then waits for
// all of them. A rank that is killed ends them all, one that fails ends those that do not end by
// themselves soon; stderr tells which. Returns the exit code for the parent. Call it while the
// process has one thread. Children end with the parent.
int spawn_ranks(int ranks, const std::function<int(const RankPlace&)>& body);

}  // namespace treadle
