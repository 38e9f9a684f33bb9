#include "transport/tcp/pipe.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {
constexpr milliseconds kConnectLimit{3000};
}

std::string to_text(const Endpoint& endpoint) {
  return fmt::format("{}{}{}:{}", endpoint.address.is_v6 ? "[" : "", to_text(endpoint.address),
                     endpoint.address.is_v6 ? "]" : "", endpoint.port);
}

socklen_t fill(sockaddr_storage& out, const Endpoint& endpoint) {
  out = {};
  if (endpoint.address.is_v6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    std::memcpy(&v6.sin6_addr, endpoint.address.bytes.data(), 16);
    return sizeof v6;
  }
  auto& v4 = reinterpret_cast<sockaddr_in&>(out);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(endpoint.port);
  std::memcpy(&v4.sin_addr, endpoint.address.bytes.data(), 4);
  return sizeof v4;
}

void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

TcpPipe::TcpPipe(Engine& engine, std::vector<Endpoint> candidates)
    : engine_(engine), candidates_(std::move(candidates)), peer_("(not connected)") {}

TcpPipe::TcpPipe(Engine& engine, int accepted_fd, std::string peer)
    : engine_(engine), fd_(accepted_fd), connected_(true), peer_(std::move(peer)) {
  set_no_delay(fd_);
}

TcpPipe::~TcpPipe() {
  *alive_ = false;
  drop_socket();
}

void TcpPipe::drop_socket() {
  if (timer_ != 0) engine_.cancel_timer_on_loop(timer_);
  timer_ = 0;
  if (fd_ < 0) return;
  if (events_ != nullptr) engine_.remove_fd_on_loop(fd_);
  ::close(fd_);
  fd_ = -1;
}

void TcpPipe::start_on_loop(Events& events) {
  events_ = &events;
  if (connected_) {
    engine_.add_fd_on_loop(fd_, EPOLLIN, [this](std::uint32_t ready) { on_events(ready); });
  } else {
    dial_next();
  }
}

void TcpPipe::dial_next() {
  if (next_ < candidates_.size()) return dial(candidates_[next_++]);
  const std::string tried =
      tried_.empty() ? "the peer published no address that this rank can use" : tried_;
  // Never from inside the call that starts the connection.
  engine_.post([this, alive = alive_, tried] {
    if (*alive)
      events_->on_broken_on_loop(Error(ErrorCode::kPeerLost, "tcp: cannot connect: {}", tried));
  });
}

void TcpPipe::dial(const Endpoint& endpoint) {
  peer_ = to_text(endpoint);
  fd_ = ::socket(endpoint.address.is_v6 ? AF_INET6 : AF_INET,
                 SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return failed(errno_text(errno));
  set_no_delay(fd_);
  sockaddr_storage address{};
  const socklen_t bytes = fill(address, endpoint);
  const int result = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), bytes);
  if (result != 0 && errno != EINPROGRESS) {
    const int reason = errno;
    ::close(fd_);
    fd_ = -1;
    return failed(errno_text(reason));
  }
  engine_.add_fd_on_loop(fd_, EPOLLOUT, [this](std::uint32_t ready) { on_events(ready); });
  timer_ = engine_.add_timer_on_loop(Clock::now() + kConnectLimit, [this] {
    timer_ = 0;
    drop_socket();
    failed(fmt::format("no answer within {} ms", kConnectLimit.count()));
  });
}

void TcpPipe::failed(const std::string& reason) {
  tried_ += fmt::format("{}{} {}", tried_.empty() ? "" : "; ", peer_, reason);
  dial_next();
}

void TcpPipe::on_events(std::uint32_t ready) {
  if (!connected_) {
    int reason = 0;
    socklen_t bytes = sizeof reason;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &reason, &bytes);
    if (reason != 0) {
      drop_socket();
      return failed(errno_text(reason));
    }
    if ((ready & EPOLLOUT) == 0) return;
    connected_ = true;
    engine_.cancel_timer_on_loop(timer_);
    timer_ = 0;
    engine_.change_fd_on_loop(fd_, EPOLLIN);
    events_->on_writable_on_loop();
    return;
  }
  if ((ready & EPOLLOUT) != 0) {
    wants_write_ = false;
    engine_.change_fd_on_loop(fd_, EPOLLIN);
    const auto alive = alive_;
    events_->on_writable_on_loop();
    if (!*alive) return;  // the connection ended and took this pipe with it
  }
  if ((ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) events_->on_readable_on_loop();
}

std::size_t TcpPipe::try_write_on_loop(std::span<const iovec> pieces) {
  if (!connected_) return 0;
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  const ssize_t wrote = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
  if (wrote > 0) return static_cast<std::size_t>(wrote);
  if (wrote == 0 || errno == EAGAIN || errno == EINTR) {
    if (!wants_write_ && events_ != nullptr) {
      wants_write_ = true;
      engine_.change_fd_on_loop(fd_, EPOLLIN | EPOLLOUT);
    }
    return 0;
  }
  throw Error(ErrorCode::kPeerLost, "tcp: writing to {}: {}", peer_, errno_text(errno));
}

std::size_t TcpPipe::try_read_on_loop(std::span<const iovec> pieces) {
  if (!connected_) return 0;
  const ssize_t got = ::readv(fd_, pieces.data(), static_cast<int>(pieces.size()));
  if (got > 0) return static_cast<std::size_t>(got);
  if (got == 0) throw Error(ErrorCode::kPeerLost, "tcp: {} closed the connection", peer_);
  if (errno == EAGAIN || errno == EINTR) return 0;
  throw Error(ErrorCode::kPeerLost, "tcp: reading from {}: {}", peer_, errno_text(errno));
}

}  // namespace treadle
