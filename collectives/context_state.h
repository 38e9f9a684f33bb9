// What the communicators of one Context share: settings, engine, links, kernels.
#pragma once
#include <unistd.h>

#include <memory>

#include "collectives/scratch.h"
#include "core/config.h"
#include "core/kernels/reduce.h"
#include "core/log.h"
#include "transport/engine.h"
#include "transport/mesh.h"

namespace treadle {

class ContextState {
 public:
  ContextState(const Config& settings, Mesh::Options options);

  // Throws in a forked child, which has the objects but neither their threads nor their
  // connections.
  void check_process() const;

  const Config config;
  const Log log;
  const int rank;
  const int ranks;
  const int process;
  const FoldVersion& fold;
  ScratchPool scratch_on_loop;
  Engine engine;
  Mesh mesh;
};

}  // namespace treadle
