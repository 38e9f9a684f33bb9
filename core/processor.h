// The processors this process may use.
#pragma once
#include <filesystem>
#include <istream>
#include <optional>

namespace treadle {

// CPUs that affinity and the control groups' quotas allow; at least 1. Reads files: ask once.
int allowed_cpus();

// The whole CPUs that the quotas of the control groups in `membership` (as /proc/self/cgroup lists
// them) and of the groups around them leave, at least 1; nothing if there is no quota. `root` is
// where control groups are mounted. Both versions of control groups.
std::optional<int> cpu_quota(std::istream& membership, const std::filesystem::path& root);

// Tells the processor that this thread only looks at memory.
inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace treadle
