// Unix sockets that carry descriptors. Non-blocking, close-on-exec.
#pragma once
#include <sys/uio.h>

#include <cstddef>
#include <deque>
#include <span>
#include <string>
#include <vector>

namespace treadle {

class UnixSocket {
 public:
  explicit UnixSocket(int fd) : fd_(fd) {}
  ~UnixSocket();
  UnixSocket(const UnixSocket&) = delete;
  UnixSocket& operator=(const UnixSocket&) = delete;

  // Connects to an abstract name; throws Error(kPeerLost).
  static int connect(const std::string& name);
  static int listen(const std::string& name);  // throws Error(kSystem)
  // A connection of the same user, or -1 if none waits.
  static int accept(int listener);

  int fd() const { return fd_; }
  // Bytes written; 0: full. `fds` travel with the first byte. Throws Error(kPeerLost).
  std::size_t write(std::span<const iovec> pieces, std::span<const int> fds = {});
  // Bytes read; 0: nothing there. Received descriptors are kept for take_fd. Throws
  // Error(kPeerLost) at the end.
  std::size_t read(std::span<const iovec> pieces);
  int take_fd();  // -1: none

 private:
  int fd_;
  std::deque<int> received_;
};

}  // namespace treadle
