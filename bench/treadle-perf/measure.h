// Measures one operation at one size.
//
// Buffers are used in turn. Iterations run in passes over the buffers; before each pass the inputs
// are written anew and all ranks meet, after it every output is checked: so every timed result is
// checked, and none of that is timed. The time of an iteration is that of the slowest rank.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "bench/treadle-perf/operations.h"
#include "bench/treadle-perf/options.h"

namespace treadle {

struct Measurement {
  std::uint64_t bytes = 0;
  int iterations = 0;
  double p50_us = 0;
  double p99_us = 0;
  double cpu_us = 0;  // of all ranks together, per iteration
  std::optional<bool> correct;
  double algbw_gbps() const { return p50_us > 0 ? static_cast<double>(bytes) / p50_us / 1e3 : 0; }
};

// The sizes to measure: whole elements, and the same number of them for each rank where they share.
std::vector<std::uint64_t> sizes_of(const PerfOptions& options, int ranks);

// All ranks call it alike and get the same answer.
Measurement measure(Communicator& communicator, const PerfOptions& options, std::uint64_t bytes);

// The smallest value with at least `share` of all values at or below it. Sorts them.
double percentile(std::span<double> values, double share);

}  // namespace treadle
