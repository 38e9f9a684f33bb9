#include "transport/interfaces.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace treadle {
namespace {

int whole_bits(const NetworkAddress& address) { return address.is_v6 ? 128 : 32; }

bool is_link_local(const NetworkAddress& a) {
  return a.is_v6 ? a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80
                 : a.bytes[0] == 169 && a.bytes[1] == 254;
}

bool is_bridge(std::string_view name) {
  return name.starts_with("docker") || name.starts_with("br-") || name.starts_with("veth") ||
         name.starts_with("virbr") || name.starts_with("cni");
}

std::optional<int> number_from(std::string_view text, int low, int high) {
  int value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || value < low || value > high) {
    return std::nullopt;
  }
  return value;
}

bool matches(const Interface& interface, std::string_view item) {
  if (interface.name == item) return true;
  const auto block = parse_address(item);
  return block && in_block(interface.address, *block);
}

std::vector<std::string_view> split(std::string_view list) {
  std::vector<std::string_view> items;
  while (!list.empty()) {
    const auto comma = list.find(',');
    if (comma != 0) items.push_back(list.substr(0, comma));
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  }
  return items;
}

std::string describe(const std::vector<Interface>& all) {
  std::string text;
  for (const Interface& i : all) {
    text += fmt::format("{}{} {}/{}", text.empty() ? "" : ", ", i.name, to_text(i.address),
                        i.address.prefix_bits);
  }
  return text.empty() ? "none" : text;
}

std::vector<Interface> automatic(const std::vector<Interface>& all) {
  std::vector<Interface> chosen;
  std::ranges::copy_if(all, std::back_inserter(chosen), [](const Interface& i) {
    return !i.is_loopback && !is_link_local(i.address);
  });
  std::ranges::stable_sort(chosen, {}, [](const Interface& i) { return is_bridge(i.name); });
  return chosen;
}

}  // namespace

std::string to_text(const NetworkAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(address.is_v6 ? AF_INET6 : AF_INET, address.bytes.data(), text.data(), text.size());
  return text.data();
}

std::optional<NetworkAddress> parse_address(std::string_view text) {
  NetworkAddress address;
  const auto slash = text.find('/');
  const std::string host(text.substr(0, slash));
  address.is_v6 = host.find(':') != std::string::npos;
  if (::inet_pton(address.is_v6 ? AF_INET6 : AF_INET, host.c_str(), address.bytes.data()) != 1) {
    return std::nullopt;
  }
  address.prefix_bits = whole_bits(address);
  if (slash != std::string_view::npos) {
    const auto bits = number_from(text.substr(slash + 1), 0, whole_bits(address));
    if (!bits) return std::nullopt;
    address.prefix_bits = *bits;
  }
  return address;
}

bool in_block(const NetworkAddress& address, const NetworkAddress& block) {
  if (address.is_v6 != block.is_v6) return false;
  for (int bit = 0; bit < block.prefix_bits; ++bit) {
    const auto byte = static_cast<std::size_t>(bit / 8);
    const int mask = 0x80 >> (bit % 8);
    if ((address.bytes[byte] & mask) != (block.bytes[byte] & mask)) return false;
  }
  return true;
}

std::vector<Interface> list_interfaces() {
  std::vector<Interface> found;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return found;
  for (const ifaddrs* i = first; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_netmask == nullptr || (i->ifa_flags & IFF_UP) == 0)
      continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    Interface interface {
      .name = i->ifa_name, .address = {}, .is_loopback = (i->ifa_flags & IFF_LOOPBACK) != 0
    };
    interface.address.is_v6 = family == AF_INET6;
    const std::size_t bytes = interface.address.is_v6 ? 16 : 4;
    const auto raw = [&](const sockaddr* from) {
      return interface.address.is_v6
                 ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(from)->sin6_addr)
                 : static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(from)->sin_addr);
    };
    std::memcpy(interface.address.bytes.data(), raw(i->ifa_addr), bytes);
    std::array<std::uint8_t, 16> mask{};
    std::memcpy(mask.data(), raw(i->ifa_netmask), bytes);
    for (const std::uint8_t byte : mask) interface.address.prefix_bits += std::popcount(byte);
    found.push_back(std::move(interface));
  }
  ::freeifaddrs(first);
  return found;
}

std::vector<Interface> choose_interfaces(const std::vector<Interface>& all, std::string_view spec) {
  if (spec.empty()) return automatic(all);
  const bool excludes = spec.front() == '^';
  const auto items = split(excludes ? spec.substr(1) : spec);
  if (items.empty()) {
    throw std::invalid_argument(
        fmt::format("TREADLE_INTERFACE={}: expected names, addresses or blocks", spec));
  }
  const auto& from = excludes ? automatic(all) : all;
  std::vector<Interface> chosen;
  std::ranges::copy_if(from, std::back_inserter(chosen), [&](const Interface& i) {
    return excludes !=
           std::ranges::any_of(items, [&](std::string_view item) { return matches(i, item); });
  });
  if (chosen.empty()) {
    throw std::invalid_argument(fmt::format(
        "TREADLE_INTERFACE={} leaves no interface; this machine has: {}", spec, describe(all)));
  }
  return chosen;
}

std::vector<NetworkAddress> rank_addresses(const std::vector<NetworkAddress>& theirs,
                                           const std::vector<NetworkAddress>& ours) {
  auto ranked = theirs;
  std::ranges::stable_sort(ranked, {}, [&](const NetworkAddress& address) {
    const bool near = std::ranges::any_of(
        ours, [&](const NetworkAddress& mine) { return in_block(address, mine); });
    return near ? 0 : 1;
  });
  return ranked;
}

std::optional<std::pair<int, int>> parse_port_range(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto dash = text.find('-');
  const auto low = number_from(text.substr(0, dash), 1, 65535);
  const auto high =
      dash == std::string_view::npos ? low : number_from(text.substr(dash + 1), 1, 65535);
  if (!low || !high || *low > *high) {
    throw std::invalid_argument(fmt::format(
        "TREADLE_PORT_RANGE={}: expected LOW-HIGH with 1 <= LOW <= HIGH <= 65535", text));
  }
  return std::pair(*low, *high);
}

}  // namespace treadle
