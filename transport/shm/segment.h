// Memory in a memfd, mapped here and in whoever is handed the descriptor.
#pragma once
#include <sys/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "transport/transport.h"

namespace treadle {

class MemfdSegment final : public SharedSegment {
 public:
  // Makes one of at least `bytes`, zeroed. Throws Error(kSystem) with the size and what to do.
  static std::shared_ptr<MemfdSegment> make(std::size_t bytes);
  // Maps one that a peer made; takes the descriptor. Throws Error(kCorrupt) if its size can still
  // change.
  static std::shared_ptr<MemfdSegment> adopt(int fd);

  ~MemfdSegment() override;
  MemfdSegment(const MemfdSegment&) = delete;
  MemfdSegment& operator=(const MemfdSegment&) = delete;
  Bytes bytes() override { return memory_; }
  int fd() const { return fd_; }

 private:
  explicit MemfdSegment(int fd) : fd_(fd) {}
  void map(std::size_t bytes);

  int fd_;
  Bytes memory_;
};

// The segments that are mapped here. Ranks of one process that are given the same table share one
// mapping of a segment, as ThreadSanitizer needs to see what they do to each other. Any thread.
class SegmentTable {
 public:
  std::shared_ptr<MemfdSegment> make(std::size_t bytes);
  std::shared_ptr<MemfdSegment> adopt(int fd);

 private:
  std::mutex mutex_;
  std::map<std::pair<dev_t, ino_t>, std::weak_ptr<MemfdSegment>> mapped_;
};

}  // namespace treadle
