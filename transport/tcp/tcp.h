// TCP between hosts, IPv4 and IPv6.
//
// A listener publishes every chosen address (transport/interfaces.h), never loopback; a peer tries
// them in turn, those of a shared subnet first, each for at most three seconds. Ranks of one host
// use loopback. Loop only.
#pragma once
#include <memory>

#include "transport/interfaces.h"
#include "transport/transport.h"

namespace treadle {

std::unique_ptr<Transport> tcp_transport(const TransportEnvironment& environment);

// What a tcp listener publishes:
//
//   u8 flags       bit 0: also reachable by loopback from the same host
//   u16 port v4, u16 port v6   0: none
//   u8 count, then per address: u8 is_v6, u8 prefix bits, 16 bytes
struct TcpAddress {
  bool loopback = false;
  std::uint16_t port_v4 = 0;
  std::uint16_t port_v6 = 0;
  std::vector<NetworkAddress> addresses;
  bool operator==(const TcpAddress&) const = default;
};
std::string encode(const TcpAddress& address);
TcpAddress decode_tcp_address(std::string_view bytes);  // throws kCorrupt

}  // namespace treadle
