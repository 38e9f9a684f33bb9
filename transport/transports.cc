// The table of transports, best first. To add one: its folder, and one row here.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "transport/shm/shm.h"
#include "transport/tcp/tcp.h"
#include "transport/transport.h"

namespace treadle {

std::vector<TransportRow> standard_transports() {
  return {
      {"shm", "shared memory between the processes of one host", true, shm_transport},
      {"tcp", "TCP over IPv4 and IPv6", false, tcp_transport},
  };
}

std::uint64_t this_host_id(const Config& config) {
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  // Abstract Unix sockets belong to a network namespace, so ranks in different ones do not share
  // memory.
  struct stat network {};
  const auto inode = ::stat("/proc/self/ns/net", &network) == 0 ? network.st_ino : 0;
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : fmt::format("{} {} {} {}", boot_id, inode, ::getuid(), config.host)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return hash;
}

}  // namespace treadle
