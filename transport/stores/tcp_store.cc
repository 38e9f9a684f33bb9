#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "core/error.h"
#include "transport/store.h"
#include "transport/stores/tcp_store_server.h"

namespace treadle {
namespace {

constexpr milliseconds kGrace{3000};       // for an answer, beyond what was asked to be waited
constexpr milliseconds kPatience{10'000};  // for a set
constexpr milliseconds kConnectAttempt{2000};
constexpr milliseconds kLongestWait{60'000};  // one request to the server

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

struct HostAndPort {
  std::string host;
  std::string port;
  std::string text;
};

HostAndPort parse(std::string_view text) {
  const auto colon = text.rfind(':');
  auto host = text.substr(0, colon == text.npos ? 0 : colon);
  const auto port = colon == text.npos ? std::string_view() : text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  int number = 0;
  const auto [end, failure] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (failure != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535 ||
      host.empty() || (!bracketed && host.find_first_of(":[]") != host.npos)) {
    throw std::invalid_argument(
        fmt::format("store address '{}': expected host:port with a port from 1 to 65535, and IPv6 "
                    "hosts in brackets, as in [::1]:29500",
                    text));
  }
  return {std::string(host), std::to_string(number), std::string(text)};
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

// Throws kSystem, e.g. while a name is not known yet.
Addresses resolve(const HostAndPort& where) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failure = ::getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &found);
      failure != 0) {
    throw Error(ErrorCode::kSystem, "looking up {}: {}", where.host, ::gai_strerror(failure));
  }
  return {found, ::freeaddrinfo};
}

Socket make_socket(int family) {
  Socket socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) throw system_error(errno, "creating a socket");
  return socket;
}

// ---- rank 0 ----

Socket listen_on(const addrinfo& address) {
  Socket socket = make_socket(address.ai_family);
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.ai_family == AF_INET6) {
    ::setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (::bind(socket.fd(), address.ai_addr, address.ai_addrlen) != 0 ||
      ::listen(socket.fd(), SOMAXCONN) != 0) {
    throw system_error(errno, "listening");
  }
  return socket;
}

// On every address of the host's name, since the others may look it up differently.
std::unique_ptr<TcpStoreServer> serve(const HostAndPort& where) {
  std::vector<Socket> sockets;
  std::string reasons;
  const Addresses found = resolve(where);
  for (const addrinfo* each = found.get(); each != nullptr; each = each->ai_next) {
    try {
      sockets.push_back(listen_on(*each));
    } catch (const Error& error) {
      reasons += fmt::format("; {}", error.what());
    }
  }
  if (sockets.empty()) {
    throw Error(ErrorCode::kSystem,
                "tcp store: rank 0 cannot serve on {}{}; use an address of this host and a free "
                "port",
                where.text, reasons);
  }
  std::vector<int> fds;
  for (Socket& socket : sockets) fds.push_back(socket.release());
  return std::make_unique<TcpStoreServer>(std::move(fds));
}

void check_sizes(std::string_view key, std::string_view value) {
  if (key.size() > kMaxStoreKeyBytes || value.size() > kMaxStoreValueBytes) {
    throw Error(ErrorCode::kSystem,
                "tcp store: key of {} bytes, at most {}; value of {}, at most {}", key.size(),
                kMaxStoreKeyBytes, value.size(), kMaxStoreValueBytes);
  }
}

class ServingStore final : public Store {
 public:
  explicit ServingStore(const HostAndPort& where) : server_(serve(where)) {}
  void set(std::string_view key, std::string_view value) override {
    check_sizes(key, value);
    server_->set(key, value);
  }
  std::optional<std::string> get(std::string_view key, Deadline by) override {
    return server_->get(key, by);
  }

 private:
  std::unique_ptr<TcpStoreServer> server_;
};

// ---- the others ----

// Throws kSystem at the deadline.
void wait_for(const Socket& socket, short events, Deadline by) {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(by - Clock::now());
    if (left.count() <= 0) throw Error(ErrorCode::kSystem, "no answer in time");
    pollfd watched{socket.fd(), events, 0};
    if (::poll(&watched, 1, static_cast<int>(std::min(left, milliseconds(60'000)).count())) > 0) {
      return;
    }
  }
}

// With nobody listening, the kernel may connect a local socket to itself.
bool is_connected_to_itself(const Socket& socket) {
  sockaddr_storage mine{};
  sockaddr_storage theirs{};
  socklen_t mine_bytes = sizeof mine;
  socklen_t theirs_bytes = sizeof theirs;
  return ::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&mine), &mine_bytes) == 0 &&
         ::getpeername(socket.fd(), reinterpret_cast<sockaddr*>(&theirs), &theirs_bytes) == 0 &&
         mine_bytes == theirs_bytes && std::memcmp(&mine, &theirs, mine_bytes) == 0;
}

Socket connect_to(const addrinfo& address, Deadline by) {
  Socket socket = make_socket(address.ai_family);
  if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) throw system_error(errno, "connecting");
    wait_for(socket, POLLOUT, std::min(by, deadline_after(kConnectAttempt)));
    int failure = 0;
    socklen_t bytes = sizeof failure;
    ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &failure, &bytes);
    if (failure != 0) throw system_error(failure, "connecting");
  }
  if (is_connected_to_itself(socket)) throw Error(ErrorCode::kSystem, "nobody listens");
  const int on = 1;
  ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return socket;
}

class CallingStore final : public Store {
 public:
  CallingStore(const HostAndPort& where, Deadline by) : where_(where) {
    insist(by, [&] { connect(by); });
  }

  void set(std::string_view key, std::string_view value) override {
    check_sizes(key, value);
    call({StoreAction::kSet, 0, std::string(key), std::string(value)}, deadline_after(kPatience));
  }

  std::optional<std::string> get(std::string_view key, Deadline by) override {
    check_sizes(key, {});
    while (true) {
      const auto now = Clock::now();
      const milliseconds wait =
          by <= now ? milliseconds(0)
                    : std::min(std::chrono::ceil<milliseconds>(by - now), kLongestWait);
      const StoreRequest request{
          StoreAction::kGet, static_cast<std::uint32_t>(wait.count()), std::string(key), {}};
      auto reply = call(request, now + wait + kGrace);
      if (reply.status == StoreStatus::kDone) return std::move(reply.value);
      if (Clock::now() >= by) return std::nullopt;
    }
  }

 private:
  // Tries again until the deadline; then throws with the last reason.
  template <typename Attempt>
  void insist(Deadline by, const Attempt& attempt) {
    const auto since = Clock::now();
    for (auto pause = milliseconds(10);; pause = std::min(2 * pause, milliseconds(200))) {
      try {
        return attempt();
      } catch (const Error& error) {
        socket_ = Socket();
        if (Clock::now() + pause >= by) {
          throw Error(ErrorCode::kSystem,
                      "tcp store at {} is out of reach for {:.1f} s: {}; is rank 0 running, and is "
                      "this its address?",
                      where_.text, std::chrono::duration<double>(Clock::now() - since).count(),
                      error.what());
        }
      }
      std::this_thread::sleep_for(pause);
    }
  }

  void connect(Deadline by) {
    std::string reasons;
    const Addresses found = resolve(where_);
    for (const addrinfo* each = found.get(); each != nullptr; each = each->ai_next) {
      try {
        socket_ = connect_to(*each, by);
        return;
      } catch (const Error& error) {
        reasons += fmt::format("{}{}", reasons.empty() ? "" : ", ", error.what());
      }
    }
    throw Error(ErrorCode::kSystem, "{}", reasons);
  }

  StoreReply call(const StoreRequest& request, Deadline by) {
    const std::lock_guard lock(mutex_);
    const auto frame = store_frame(request);
    StoreReply reply;
    // Both actions may be repeated without harm.
    insist(by, [&] {
      if (!socket_) connect(by);
      send(frame, by);
      reply = decode_store_reply(receive(by));
    });
    if (reply.status == StoreStatus::kRefused) {
      throw Error(ErrorCode::kSystem, "tcp store at {}: setting {} ({} bytes): {}", where_.text,
                  request.key, request.value.size(), reply.value);
    }
    return reply;
  }

  void send(ConstBytes bytes, Deadline by) {
    while (!bytes.empty()) {
      wait_for(socket_, POLLOUT, by);
      const auto sent = ::send(socket_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
      } else if (errno != EAGAIN && errno != EINTR) {
        throw system_error(errno, "sending");
      }
    }
  }

  std::vector<std::byte> receive(Deadline by) {
    StoreFrameReader reader;
    std::array<std::byte, 16 << 10> buffer;
    while (true) {
      if (auto body = reader.next()) return std::move(*body);
      wait_for(socket_, POLLIN, by);
      const auto got = ::recv(socket_.fd(), buffer.data(), buffer.size(), 0);
      if (got == 0) throw Error(ErrorCode::kSystem, "it closed the connection");
      if (got > 0) {
        reader.append(ConstBytes(buffer).first(static_cast<std::size_t>(got)));
      } else if (errno != EAGAIN && errno != EINTR) {
        throw system_error(errno, "receiving");
      }
    }
  }

  const HostAndPort where_;
  std::mutex mutex_;  // one call at a time
  Socket socket_;
};

}  // namespace

std::unique_ptr<Store> tcp_store(std::string_view host_and_port, int rank, Deadline by) {
  const HostAndPort where = parse(host_and_port);
  if (rank == 0) return std::make_unique<ServingStore>(where);
  return std::make_unique<CallingStore>(where, by);
}

}  // namespace treadle
