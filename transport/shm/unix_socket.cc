#include "transport/shm/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxFds = 4;       // in one call
constexpr std::size_t kMaxWaiting = 16;  // received and not taken
constexpr int kBacklog = 4096;

// Room for descriptors beside a message, aligned for its header.
struct Control {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxFds * sizeof(int))> bytes{};
};

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
  if (fd_ >= 0) ::close(fd_);
}

UnixSocket UnixSocket::make() {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw system_error(errno, "creating a Unix socket");
  return UnixSocket(fd);
}

bool UnixSocket::same_user() const {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  return ::getsockopt(fd_, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.uid == ::geteuid();
}

UnixSocket UnixSocket::connect(const std::string& name) {
  sockaddr_un address{};
  const socklen_t bytes = fill(address, name);
  UnixSocket socket = make();
  // A local connect succeeds or fails at once; EAGAIN means that too many wait to be accepted.
  if (::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), bytes) != 0) {
    throw Error(ErrorCode::kPeerLost, "shm: connecting to socket {}: {}", name, errno_text(errno));
  }
  if (!socket.same_user()) {
    throw Error(ErrorCode::kPeerLost, "shm: socket {} belongs to another user", name);
  }
  return socket;
}

UnixSocket UnixSocket::listen(const std::string& name) {
  sockaddr_un address{};
  const socklen_t bytes = fill(address, name);
  UnixSocket socket = make();
  if (::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), bytes) != 0 ||
      ::listen(socket.fd(), kBacklog) != 0) {
    throw system_error(errno, "listening on Unix socket {}", name);
  }
  return socket;
}

std::optional<UnixSocket> UnixSocket::accept(const UnixSocket& listener) {
  while (true) {
    const int fd = ::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      UnixSocket socket(fd);
      if (socket.same_user()) return socket;
      continue;  // another user's process has no business here
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    throw system_error(errno, "accepting a shared-memory connection");
  }
}

std::size_t UnixSocket::write(std::span<const iovec> pieces, std::span<const int> fds) {
  TREADLE_CHECK(fds.size() <= kMaxFds, "{} descriptors in one call", fds.size());
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  Control control;
  if (!fds.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  const ssize_t wrote = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
  if (wrote >= 0) return static_cast<std::size_t>(wrote);
  const int reason = errno;
  if (reason == EAGAIN || reason == EINTR || reason == EPIPE || reason == ECONNRESET) return 0;
  throw system_error(reason, "writing to the peer's Unix socket");
}

std::size_t UnixSocket::read(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  Control control;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  const ssize_t got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return 0;
    throw Error(ErrorCode::kPeerLost, "reading from the peer's Unix socket: {}", errno_text(errno));
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
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    throw Error(
        ErrorCode::kSystem,
        "no room for a descriptor from the peer; raise the limit of open files (ulimit -n)");
  }
  if (received_.size() > kMaxWaiting) {
    throw Error(ErrorCode::kCorrupt, "the peer sent {} descriptors that nobody asked for",
                received_.size());
  }
  if (got == 0) throw Error(ErrorCode::kPeerLost, "the peer closed the connection");
  return static_cast<std::size_t>(got);
}

int UnixSocket::take_fd() {
  if (received_.empty()) return -1;
  const int fd = received_.front();
  received_.pop_front();
  return fd;
}

}  // namespace treadle
