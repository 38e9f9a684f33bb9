// Unix sockets that carry descriptors. Non-blocking, close-on-exec.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace treadle {

class UnixSocket {
 public:
  // Connects to an abstract name of a process of the same user; throws Error(kPeerLost).
  static UnixSocket connect(const std::string& name);
  static UnixSocket listen(const std::string& name);  // throws Error(kSystem)
  // The next connection of a process of the same user, if one waits. Throws Error(kSystem) if this
  // process has no room for it now.
  static std::optional<UnixSocket> accept(const UnixSocket& listener);

  UnixSocket(UnixSocket&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), received_(std::exchange(other.received_, {})) {}
  UnixSocket& operator=(UnixSocket&&) = delete;
  ~UnixSocket();

  int fd() const { return fd_; }
  // Bytes written; 0: it is full or the peer has gone, which reading tells. `fds` travel with the
  // first byte. Throws Error(kSystem).
  std::size_t write(std::span<const iovec> pieces, std::span<const int> fds = {});
  // Bytes read; 0: nothing is there. Received descriptors are kept for take_fd. Throws
  // Error(kPeerLost) at the end.
  std::size_t read(std::span<const iovec> pieces);
  int take_fd();  // the oldest received descriptor, now the caller's; -1: none

 private:
  explicit UnixSocket(int fd) : fd_(fd) {}
  static UnixSocket make();
  bool same_user() const;

  int fd_;
  std::deque<int> received_;
};

}  // namespace treadle
