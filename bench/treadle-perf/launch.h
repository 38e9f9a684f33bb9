// Which rank this process is, and where the ranks meet.
#pragma once
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/config.h"
#include "transport/store.h"

namespace treadle {

struct RankPlace {
  int rank = 0;
  int ranks = 1;
  std::string rendezvous;  // "HOST:PORT" or "file:DIRECTORY"
  bool owns_directory =
      false;  // the directory is of this run alone: rank 0 removes it once all have met
};

// `rendezvous` is what the user asked for, or empty. Throws std::invalid_argument that tells what
// to do where the launcher does not say enough.
RankPlace place_from(const LaunchEnvironment& launch, const std::string& rendezvous);

std::unique_ptr<Store> store_of(const RankPlace& place, Deadline by);

// On rank 0: removes the directory in which all ranks have met.
void clean_up(const RankPlace& place);

}  // namespace treadle
