#include "core/processor.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace treadle {
namespace {

// Of one group: version 2 has "QUOTA PERIOD" or "max PERIOD" in cpu.max, version 1 two files, with
// a quota of -1 for none.
std::optional<double> quota_of(const std::filesystem::path& group) {
  double quota = 0;
  double period = 0;
  std::ifstream both(group / "cpu.max");
  if (!(both >> quota >> period)) {
    std::ifstream(group / "cpu.cfs_quota_us") >> quota;
    std::ifstream(group / "cpu.cfs_period_us") >> period;
  }
  return quota > 0 && period > 0 ? std::optional(quota / period) : std::nullopt;
}

bool names_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

std::optional<int> cpu_quota(std::istream& membership, const std::filesystem::path& root) {
  std::optional<double> least;
  for (std::string line; std::getline(membership, line);) {  // hierarchy:controllers:/path
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !names_cpu(controllers)) continue;
    const auto top = controllers.empty() ? root : root / controllers;
    // From the group to the outermost one. A container sees its own group at the top.
    std::filesystem::path inside = line.substr(second + 1);
    inside = inside.relative_path();
    while (true) {
      if (const auto quota = quota_of(top / inside))
        least = std::min(least.value_or(*quota), *quota);
      if (inside.empty()) break;
      inside = inside.parent_path();
    }
  }
  if (!least) return std::nullopt;
  return std::max(1, static_cast<int>(std::ceil(*least)));
}

int allowed_cpus() {
  cpu_set_t set;
  const int by_affinity = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream membership("/proc/self/cgroup");
  return std::min(by_affinity, cpu_quota(membership, "/sys/fs/cgroup").value_or(by_affinity));
}

}  // namespace treadle
