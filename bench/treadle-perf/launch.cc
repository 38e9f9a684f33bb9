#include "bench/treadle-perf/launch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <stdexcept>
#include <string_view>

namespace treadle {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kFile = "file:";

std::string as_file_name(const std::string& job) {
  std::string name;
  for (const char c : job) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

// torch's own store holds the master port, sometimes in another process: the next one is ours.
std::string after_master_port(const LaunchEnvironment& launch) {
  if (launch.master_address.empty() || launch.master_port == 0 || launch.master_port == 65535) {
    throw std::invalid_argument(
        "torchrun's RANK and WORLD_SIZE are set, but MASTER_ADDR and MASTER_PORT do not give a "
        "port "
        "to meet at: give --rendezvous HOST:PORT");
  }
  const bool is_v6 = launch.master_address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", launch.master_address, is_v6 ? "]" : "",
                     launch.master_port + 1);
}

}  // namespace

RankPlace place_from(const LaunchEnvironment& launch, const std::string& rendezvous) {
  if (launch.launcher.empty()) {
    throw std::invalid_argument(
        "no ranks: give --spawn N for ranks on this host, or start this program with torchrun "
        "--no-python, mpirun, or RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set");
  }
  RankPlace place{.rank = launch.rank, .ranks = launch.ranks, .rendezvous = rendezvous};
  if (!rendezvous.empty()) return place;
  if (launch.launcher == "torchrun") {
    place.rendezvous = after_master_port(launch);
    return place;
  }
  if (launch.local_ranks != launch.ranks || launch.job.empty()) {
    throw std::invalid_argument(
        fmt::format("started by {} with {} ranks, {} of them known to be on this host: give "
                    "--rendezvous HOST:PORT with a free port on rank 0's host, or --rendezvous "
                    "file:DIRECTORY on a shared file system",
                    launch.launcher, launch.ranks, launch.local_ranks));
  }
  const auto name = fmt::format("treadle-perf-{}-{}", ::geteuid(), as_file_name(launch.job));
  place.rendezvous = fmt::format("{}{}", kFile, (fs::temp_directory_path() / name).string());
  place.owns_directory = true;
  return place;
}

std::unique_ptr<Store> store_of(const RankPlace& place, Deadline by) {
  if (place.rendezvous.starts_with(kFile)) return file_store(place.rendezvous.substr(kFile.size()));
  return tcp_store(place.rendezvous, place.rank, by);
}

void clean_up(const RankPlace& place) {
  if (!place.owns_directory || place.rank != 0) return;
  std::error_code ignored;
  fs::remove_all(place.rendezvous.substr(kFile.size()), ignored);
}

}  // namespace treadle
