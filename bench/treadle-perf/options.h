// The command line of treadle-perf.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "core/dtype.h"

namespace treadle {

struct PerfOptions {
  std::string operation = "all_reduce";
  std::uint64_t min_bytes = 8;
  std::uint64_t max_bytes = 64 << 20;
  int factor = 2;
  int iterations = 0;  // 0: more for small sizes
  int warmup = -1;     // below 0: a tenth of the iterations
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  std::string algorithm;  // empty: as configured
  std::string transport;  // empty: as configured
  bool in_place = false;
  bool check = true;
  bool json = false;
  int timeout_s = 60;  // of one operation, the first one included, which waits for all ranks
  int spawn = 0;
  std::string rendezvous;
};

struct ParsedCommandLine {
  PerfOptions options;
  std::optional<int> exit_code;  // set: nothing is left to be done, help or a complaint is printed
};
ParsedCommandLine parse_command_line(int argc, char** argv);

}  // namespace treadle
