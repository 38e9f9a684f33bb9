#include "collectives/scratch.h"

#include <algorithm>
#include <utility>

namespace treadle {

ScratchBlock ScratchPool::take(std::size_t bytes) {
  const auto found = std::find_if(kept_.rbegin(), kept_.rend(), [&](const ScratchBlock& block) {
    return block.bytes().size() >= bytes;
  });
  if (found == kept_.rend()) return ScratchBlock(bytes);
  ScratchBlock block = std::move(*found);
  kept_.erase(std::prev(found.base()));
  kept_bytes_ -= block.bytes().size();
  return block;
}

void ScratchPool::give_back(ScratchBlock block) {
  const std::size_t bytes = block.bytes().size();
  if (bytes == 0 || bytes > limit_bytes_) return;
  kept_bytes_ += bytes;
  kept_.push_back(std::move(block));
  while (kept_bytes_ > limit_bytes_) {
    kept_bytes_ -= kept_.front().bytes().size();
    kept_.erase(kept_.begin());
  }
}

}  // namespace treadle
