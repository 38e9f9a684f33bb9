#include "transport/shm/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxFds = 4;

int make_socket() {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw system_error(errno, "creating a Unix socket");
  return fd;
}

// An abstract name: a zero byte, then the text. It vanishes with its socket.
socklen_t fill(sockaddr_un& address, const std::string& name) {
  address = {};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() > sizeof(address.sun_path) - 1) {
    throw Error(ErrorCode::kCorrupt, "shm: a socket name of {} bytes", name.size());
  }
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

}  // namespace

UnixSocket::~UnixSocket() {
  for (const int fd : received_) ::close(fd);
  ::close(fd_);
}

int UnixSocket::connect(const std::string& name) {
  sockaddr_un address{};
  const socklen_t bytes = fill(address, name);
  const int fd = make_socket();
  // A local connect succeeds or fails at once; EAGAIN means a full backlog.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), bytes) != 0) {
    const int reason = errno;
    ::close(fd);
    throw Error(ErrorCode::kPeerLost, "shm: connecting to socket {}: {}", name, errno_text(reason));
  }
  return fd;
}

int UnixSocket::listen(const std::string& name) {
  sockaddr_un address{};
  const socklen_t bytes = fill(address, name);
  const int fd = make_socket();
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), bytes) != 0 ||
      ::listen(fd, 1024) != 0) {
    const int reason = errno;
    ::close(fd);
    throw system_error(reason, "listening on Unix socket {}", name);
  }
  return fd;
}

int UnixSocket::accept(int listener) {
  while (true) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return -1;
    ucred peer{};
    socklen_t bytes = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.uid == ::getuid())
      return fd;
    ::close(fd);  // another user's process has no business here
  }
}

std::size_t UnixSocket::write(std::span<const iovec> pieces, std::span<const int> fds) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  const ssize_t wrote = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
  if (wrote >= 0) return static_cast<std::size_t>(wrote);
  if (errno == EAGAIN || errno == EINTR) return 0;
  throw Error(ErrorCode::kPeerLost, "shm: writing to the peer's socket: {}", errno_text(errno));
}

std::size_t UnixSocket::read(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return 0;
    throw Error(ErrorCode::kPeerLost, "shm: reading from the peer's socket: {}", errno_text(errno));
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received_.push_back(fd);
    }
  }
  if (got == 0) throw Error(ErrorCode::kPeerLost, "shm: the peer closed the connection");
  return static_cast<std::size_t>(got);
}

int UnixSocket::take_fd() {
  if (received_.empty()) return -1;
  const int fd = received_.front();
  received_.pop_front();
  return fd;
}

}  // namespace treadle
