#include "transport/tcp/tcp.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/wire.h"
#include "transport/stream_connection.h"
#include "transport/tcp/pipe.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxAddresses = 128;

NetworkAddress loopback(bool is_v6) { return *parse_address(is_v6 ? "::1" : "127.0.0.1"); }

std::uint16_t port_of(int fd) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
    throw system_error(errno, "tcp: asking for the port of a listener");
  }
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::string peer_of(const sockaddr_storage& from) {
  Endpoint endpoint;
  endpoint.address.is_v6 = from.ss_family == AF_INET6;
  if (endpoint.address.is_v6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
    std::memcpy(endpoint.address.bytes.data(), &v6.sin6_addr, 16);
    endpoint.port = ntohs(v6.sin6_port);
  } else {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    std::memcpy(endpoint.address.bytes.data(), &v4.sin_addr, 4);
    endpoint.port = ntohs(v4.sin_port);
  }
  return to_text(endpoint);
}

// -1 and errno if it cannot listen there.
int listen_on(const Endpoint& endpoint) {
  const int fd = ::socket(endpoint.address.is_v6 ? AF_INET6 : AF_INET,
                          SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (endpoint.address.is_v6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_storage address{};
  const socklen_t bytes = fill(address, endpoint);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), bytes) == 0 &&
      ::listen(fd, 1024) == 0) {
    return fd;
  }
  const int reason = errno;
  ::close(fd);
  errno = reason;
  return -1;
}

// Listens on every interface; who may be told an address is decided by what is published.
class TcpListener final : public Listener {
 public:
  TcpListener(const TransportEnvironment& env, AcceptHandler on_accept)
      : env_(env), on_accept_(std::move(on_accept)) {
    const auto all = list_interfaces();
    for (const Interface& i : choose_interfaces(all, env_.config.interface)) {
      address_.addresses.push_back(i.address);
    }
    if (address_.addresses.size() > kMaxAddresses) address_.addresses.resize(kMaxAddresses);
    address_.loopback = true;
    try {
      address_.port_v4 = open(false);
      address_.port_v6 = open(true);
    } catch (...) {
      close_all();
      throw;
    }
    if (fds_.empty()) {
      throw Error(ErrorCode::kSystem, "tcp: cannot listen: {}", reason_);
    }
  }
  ~TcpListener() override {
    close_all();
    *alive_ = false;
  }
  std::string address() const override { return encode(address_); }

 private:
  void close_all() {
    for (const int fd : fds_) {
      env_.engine.remove_fd_on_loop(fd);
      ::close(fd);
    }
    fds_.clear();
  }

  std::uint16_t open(bool is_v6) {
    const auto range = parse_port_range(env_.config.port_range);
    const auto [low, high] = range.value_or(std::pair(0, 0));
    const NetworkAddress any{.is_v6 = is_v6, .bytes = {}, .prefix_bits = 0};
    bool taken = false;
    for (int port = low; port <= high; ++port) {
      const int fd = listen_on({any, static_cast<std::uint16_t>(port)});
      if (fd < 0) {
        taken |= range && errno == EADDRINUSE;
        reason_ = errno_text(errno);
        continue;
      }
      fds_.push_back(fd);
      env_.engine.add_fd_on_loop(fd, EPOLLIN, [this, fd](std::uint32_t) { accept(fd); });
      return port_of(fd);
    }
    // A host without this family is one thing; half a rank's addresses gone is another.
    if (taken) {
      throw Error(ErrorCode::kSystem,
                  "tcp: no port of TREADLE_PORT_RANGE={} is left for IPv{}; every rank of a host "
                  "needs one, so widen the range",
                  env_.config.port_range, is_v6 ? 6 : 4);
    }
    return 0;
  }

  void accept(int listener) {
    while (true) {
      sockaddr_storage from{};
      socklen_t bytes = sizeof from;
      const int fd = ::accept4(listener, reinterpret_cast<sockaddr*>(&from), &bytes,
                               SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == ECONNABORTED || errno == EINTR) continue;
        if (errno == EMFILE || errno == ENFILE) pause(listener);
        return;
      }
      auto pipe = std::make_unique<TcpPipe>(env_.engine, fd, peer_of(from));
      auto connection =
          std::make_unique<StreamConnection>(std::move(pipe), env_.engine, env_.config, nullptr);
      StreamConnection& raw = *connection;
      raw.attach(on_accept_(std::move(connection)));
    }
  }

  // Out of descriptors: a level-triggered listener would spin.
  void pause(int listener) {
    env_.log(LogLevel::kError, "tcp: no descriptor left for a connection; raise ulimit -n");
    env_.engine.change_fd_on_loop(listener, 0);
    env_.engine.add_timer_on_loop(Clock::now() + milliseconds(100),
                                  [this, alive = alive_, listener] {
                                    if (*alive) env_.engine.change_fd_on_loop(listener, EPOLLIN);
                                  });
  }

  const TransportEnvironment env_;
  const AcceptHandler on_accept_;
  TcpAddress address_;
  std::vector<int> fds_;
  std::string reason_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class TcpTransport final : public Transport {
 public:
  explicit TcpTransport(const TransportEnvironment& env) : env_(env) {}

  std::string_view name() const override { return "tcp"; }
  std::string unusable_because() const override { return {}; }
  std::unique_ptr<Listener> listen_on_loop(AcceptHandler on_accept) override {
    return std::make_unique<TcpListener>(env_, std::move(on_accept));
  }
  std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane, bool same_host,
                                              ConnectionEvents& events) override {
    const TcpAddress peer = decode_tcp_address(address);
    std::vector<Endpoint> candidates;
    if (same_host && peer.loopback) {
      if (peer.port_v4 != 0) candidates.push_back({loopback(false), peer.port_v4});
      if (peer.port_v6 != 0) candidates.push_back({loopback(true), peer.port_v6});
    }
    std::vector<NetworkAddress> ours;
    for (const Interface& i : list_interfaces()) ours.push_back(i.address);
    for (const NetworkAddress& a : rank_addresses(peer.addresses, ours)) {
      const auto port = a.is_v6 ? peer.port_v6 : peer.port_v4;
      if (port != 0) candidates.push_back({a, port});
    }
    auto pipe = std::make_unique<TcpPipe>(env_.engine, std::move(candidates));
    return std::make_unique<StreamConnection>(std::move(pipe), env_.engine, env_.config, &events);
  }
  std::shared_ptr<SharedSegment> make_segment(std::size_t) override { return nullptr; }

 private:
  const TransportEnvironment env_;
};

}  // namespace

std::string encode(const TcpAddress& address) {
  WireBuffer out;
  out.put(static_cast<std::uint8_t>(address.loopback ? 1 : 0));
  out.put(address.port_v4);
  out.put(address.port_v6);
  out.put(static_cast<std::uint8_t>(address.addresses.size()));
  for (const NetworkAddress& a : address.addresses) {
    out.put(static_cast<std::uint8_t>(a.is_v6 ? 1 : 0));
    out.put(static_cast<std::uint8_t>(a.prefix_bits));
    for (const std::uint8_t byte : a.bytes) out.put(byte);
  }
  return {reinterpret_cast<const char*>(out.bytes().data()), out.bytes().size()};
}

TcpAddress decode_tcp_address(std::string_view bytes) {
  WireReader r(std::as_bytes(std::span(bytes)));
  TcpAddress address;
  const auto flags = r.get<std::uint8_t>();
  address.loopback = (flags & 1) != 0;
  address.port_v4 = r.get<std::uint16_t>();
  address.port_v6 = r.get<std::uint16_t>();
  const auto count = r.get<std::uint8_t>();
  if (count > kMaxAddresses || flags > 1) {
    throw Error(ErrorCode::kCorrupt, "tcp address: {} addresses, flags {:#x}", count, flags);
  }
  for (int i = 0; i < count; ++i) {
    NetworkAddress a;
    const auto is_v6 = r.get<std::uint8_t>();
    a.is_v6 = is_v6 == 1;
    a.prefix_bits = r.get<std::uint8_t>();
    for (std::uint8_t& byte : a.bytes) byte = r.get<std::uint8_t>();
    if (is_v6 > 1 || a.prefix_bits > (a.is_v6 ? 128 : 32)) {
      throw Error(ErrorCode::kCorrupt, "tcp address: family {}, {} prefix bits", is_v6,
                  a.prefix_bits);
    }
    address.addresses.push_back(a);
  }
  return address;
}

std::unique_ptr<Transport> tcp_transport(const TransportEnvironment& environment) {
  return std::make_unique<TcpTransport>(environment);
}

}  // namespace treadle
