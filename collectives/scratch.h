// Memory that operations in flight receive into before it is folded, kept from one operation to the
// next: fresh pages cost a fault and a clearing each. docs/performance.md.
#pragma once
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "core/bytes.h"

namespace treadle {

// Memory of any contents.
class ScratchBlock {
 public:
  static constexpr std::align_val_t kAlignment{64};

  ScratchBlock() = default;
  explicit ScratchBlock(std::size_t bytes)
      : memory_(static_cast<std::byte*>(::operator new[](bytes, kAlignment))), bytes_(bytes) {}
  Bytes bytes() const { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, kAlignment); }
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t bytes_ = 0;
};

// Of one context. Loop only.
class ScratchPool {
 public:
  // `kept_bytes`: how much may lie here between operations.
  explicit ScratchPool(std::size_t kept_bytes) : limit_bytes_(kept_bytes) {}

  // A block of at least `bytes`, the last one given back if it will do. Throws std::bad_alloc.
  ScratchBlock take(std::size_t bytes);
  void give_back(ScratchBlock block);
  std::size_t kept_bytes() const { return kept_bytes_; }

 private:
  const std::size_t limit_bytes_;
  std::size_t kept_bytes_ = 0;
  std::vector<ScratchBlock> kept_;  // in the order in which they came back
};

}  // namespace treadle
