#include "transport/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.h"

namespace treadle {
namespace {

// A peer that shrank the file would turn our loads into SIGBUS.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

std::shared_ptr<MemfdSegment> MemfdSegment::make(std::size_t bytes) {
  const int fd = ::memfd_create("treadle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw system_error(errno, "creating a memfd of {} bytes", bytes);
  auto segment = std::shared_ptr<MemfdSegment>(new MemfdSegment(fd));
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throw system_error(errno, "sizing a memfd to {} bytes", bytes);
  }
  // Reserve the pages now: running out later would be a signal, not an error.
  if (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0) {
    throw system_error(
        errno,
        "reserving {} bytes of shared memory; lower TREADLE_WINDOW_BYTES or give the "
        "container more memory",
        bytes);
  }
  if (::fcntl(fd, F_ADD_SEALS, kSeals) != 0) throw system_error(errno, "sealing a memfd");
  segment->map(bytes);
  return segment;
}

std::shared_ptr<MemfdSegment> MemfdSegment::adopt(int fd) {
  auto segment = std::shared_ptr<MemfdSegment>(new MemfdSegment(fd));
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw system_error(errno, "looking at a peer's memfd");
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || status.st_size <= 0) {
    throw Error(ErrorCode::kCorrupt, "a peer's segment of {} bytes is not sealed against shrinking",
                status.st_size);
  }
  segment->map(static_cast<std::size_t>(status.st_size));
  return segment;
}

void MemfdSegment::map(std::size_t bytes) {
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (address == MAP_FAILED) throw system_error(errno, "mapping {} bytes of shared memory", bytes);
  // A forked child must not hold, or by mistake write, what ranks share.
  ::madvise(address, bytes, MADV_DONTFORK);
  memory_ = {static_cast<std::byte*>(address), bytes};
}

MemfdSegment::~MemfdSegment() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
  ::close(fd_);
}

}  // namespace treadle
