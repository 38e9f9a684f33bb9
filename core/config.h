// Every setting of the library, in one place, read once.
//
// A setting is one field here and one row {name, unit, meaning} in config.cc, from which it is
// read, printed (`treadle-info --config`) and documented. The environment variable TREADLE_<NAME>
// sets it; an unknown TREADLE_ variable is an error. The only getenv of the code base is in
// config.cc.
#pragma once
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace treadle {

struct Config {
  std::string log_level = "warn";
  std::string transport = "auto";
  std::string interface;
  std::string port_range;
  std::string host;
  std::string kernels = "auto";
  std::string allreduce = "auto";
  std::string broadcast = "auto";
  std::string allgather = "auto";
  std::string reduce_scatter = "auto";
  std::chrono::milliseconds timeout{std::chrono::minutes(30)};
  std::chrono::milliseconds heartbeat{4000};
  std::uint64_t eager_bytes = 64 << 10;
  std::uint64_t segment_bytes = 255 << 10;
  std::uint64_t window_bytes = 384 << 10;  // shared-memory staging per rank and half
};

struct Setting {
  std::string name;      // "TREADLE_HEARTBEAT"
  std::string value;     // current
  std::string standard;  // default
  std::string unit;      // "ms", "bytes", "" …
  std::string meaning;
  bool must_agree;  // part of the settings hash in the hello
};

// Throws std::invalid_argument that names the variable, its value and what was expected.
Config config_from(std::span<const std::pair<std::string, std::string>> variables);
Config config_from_environment();

std::vector<Setting> settings_of(const Config& config);

// A hash over every setting that all ranks must share.
std::uint64_t agreed_hash(const Config& config);

// What a launcher told this process about its place among the ranks.
struct LaunchEnvironment {
  std::string launcher;  // "torchrun", "Open MPI", "PMI"; empty: started by none of them
  int rank = 0;
  int ranks = 1;
  int local_rank = 0;          // among the ranks of this host
  int local_ranks = 0;         // 0: not told
  std::string job;             // the same on all ranks of a run; empty: not told
  std::string master_address;  // torchrun: the host of rank 0 ...
  int master_port = 0;         // ... and a port there, taken by torch's own store; 0: not told
  bool operator==(const LaunchEnvironment&) const = default;
};

// Of several launchers the first in the order above counts: mpirun may start torchrun on each host.
// Throws std::invalid_argument that names a variable without sense and its value.
LaunchEnvironment launch_environment_from(
    std::span<const std::pair<std::string, std::string>> variables);
LaunchEnvironment launch_environment();

}  // namespace treadle
