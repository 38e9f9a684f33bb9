// The table of transports, best first. To add one: its folder, and one row here.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <string>

#include "core/hash.h"
#include "transport/shm/shm.h"
#include "transport/tcp/tcp.h"
#include "transport/transport.h"

namespace treadle {
namespace {

std::uint64_t inode_of(const char* path) {
  struct stat status {};
  return ::stat(path, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

std::vector<TransportRow> standard_transports() {
  return {
      shm_row(),
      {"tcp", "TCP over IPv4 and IPv6", false, tcp_transport},
  };
}

std::uint64_t this_host_id(const Config& config) {
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  if (boot_id.empty()) {
    // Nothing tells hosts apart, so no rank may take another one to be on its host.
    std::random_device source;
    boot_id = fmt::format("{:08x}{:08x}{:08x}", source(), source(), source());
  }
  // Abstract Unix sockets belong to a network namespace, and user ids mean something within a user
  // namespace: ranks in different ones cannot share memory.
  const auto text = fmt::format("{} {} {} {} {}", boot_id, inode_of("/proc/self/ns/net"),
                                inode_of("/proc/self/ns/user"), ::geteuid(), config.host);
  return Hash().add(text).value();
}

}  // namespace treadle
