// Which network interfaces a rank listens on and publishes, and in which order a peer tries them.
// Pure, but for list_interfaces().
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace treadle {

struct NetworkAddress {
  bool is_v6 = false;
  std::array<std::uint8_t, 16> bytes{};  // the first four for IPv4
  int prefix_bits = 0;
  bool operator==(const NetworkAddress&) const = default;
};

struct Interface {
  std::string name;
  NetworkAddress address;
  bool is_loopback = false;
  bool operator==(const Interface&) const = default;
};

std::string to_text(const NetworkAddress& address);                  // "10.0.0.2", "fd00::1"
std::optional<NetworkAddress> parse_address(std::string_view text);  // with or without "/bits"
bool in_block(const NetworkAddress& address,
              const NetworkAddress& block);  // same leading bits as the block

std::vector<Interface> list_interfaces();  // up and running, one entry per address

// `spec` is TREADLE_INTERFACE: names, addresses and CIDR blocks separated by commas; a leading ^
// excludes them instead. Empty: all but loopback and link-local, bridges of containers last. Throws
// std::invalid_argument that lists what there is if a non-empty spec leaves nothing.
std::vector<Interface> choose_interfaces(const std::vector<Interface>& all, std::string_view spec);

// The peer's addresses in the order to try: those in a subnet of ours first.
std::vector<NetworkAddress> rank_addresses(const std::vector<NetworkAddress>& theirs,
                                           const std::vector<NetworkAddress>& ours);

// "LOW-HIGH"; empty: nothing. Throws std::invalid_argument.
std::optional<std::pair<int, int>> parse_port_range(std::string_view text);

}  // namespace treadle
