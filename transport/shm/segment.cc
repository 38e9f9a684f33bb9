#include "transport/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <string_view>

#include "core/error.h"

namespace treadle {
namespace {

// A peer that shrank the file would turn our loads into SIGBUS.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

constexpr std::string_view kAdvice =
    "give the container or control group more memory, or lower TREADLE_WINDOW_BYTES";

std::pair<dev_t, ino_t> identity_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) throw system_error(errno, "looking at a memfd");
  return {status.st_dev, status.st_ino};
}

// What the machine could give without swapping; 0 if it does not say.
std::size_t available_bytes() {
  std::ifstream in("/proc/meminfo");
  std::string name;
  std::size_t kib = 0;
  for (std::string unit; in >> name >> kib; std::getline(in, unit)) {
    if (name == "MemAvailable:") return kib * 1024;
  }
  return 0;
}

}  // namespace

std::shared_ptr<MemfdSegment> MemfdSegment::make(std::size_t bytes) {
  // Asked for more than there is, the kernel would not refuse but look for processes to kill.
  if (const std::size_t available = available_bytes(); available != 0 && bytes > available) {
    throw Error(ErrorCode::kSystem,
                "{} bytes of shared memory are wanted, and this machine has {} bytes left; {}",
                bytes, available, kAdvice);
  }
  const int fd = ::memfd_create("treadle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw system_error(errno, "creating a memfd of {} bytes", bytes);
  auto segment = std::shared_ptr<MemfdSegment>(new MemfdSegment(fd));
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throw system_error(errno, "sizing a memfd to {} bytes", bytes);
  }
  // Reserve the pages now: running out later would be a signal, not an error.
  int failure = 0;
  do {
    failure = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (failure == EINTR);
  if (failure != 0) {
    throw system_error(failure, "reserving {} bytes of shared memory; {}", bytes, kAdvice);
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

std::shared_ptr<MemfdSegment> SegmentTable::make(std::size_t bytes) {
  auto segment = MemfdSegment::make(bytes);
  const std::lock_guard lock(mutex_);
  std::erase_if(mapped_, [](const auto& entry) { return entry.second.expired(); });
  mapped_[identity_of(segment->fd())] = segment;
  return segment;
}

std::shared_ptr<MemfdSegment> SegmentTable::adopt(int fd) {
  auto adopted = MemfdSegment::adopt(fd);
  const std::lock_guard lock(mutex_);
  auto& known = mapped_[identity_of(adopted->fd())];
  if (auto segment = known.lock()) return segment;
  known = adopted;
  return adopted;
}

}  // namespace treadle
