// What rank 0 prints: a table, or one JSON object per line.
#pragma once
#include <string>
#include <vector>

#include "bench/treadle-perf/measure.h"
#include "bench/treadle-perf/options.h"

namespace treadle {

// Of Context::links(): "shm", "tcp", "shm+tcp"; "none" for one rank.
std::string transports_in(const std::vector<std::string>& links);

class Report {
 public:
  Report(const PerfOptions& options, int ranks) : options_(options), ranks_(ranks) {}
  // Lines appear as they are added. `transport` is that of the first line in the table's title.
  void add(const Measurement& found, const std::string& transport);

 private:
  void print_title(const std::string& transport) const;

  const PerfOptions& options_;
  const int ranks_;
  bool has_title_ = false;
};

}  // namespace treadle
