#include "transport/ring.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kTail = 0, kWriterWaiting = 1, kHead = 16, kReaderAsleep = 17;

using AtomicWord = std::atomic_ref<std::uint32_t>;

}  // namespace

Ring::Ring(Bytes memory) : base_(memory.data()), data_(memory.data() + 128) {
  TREADLE_CHECK(memory.size() >= kSharedBytes, "a ring needs {} bytes, got {}", kSharedBytes,
                memory.size());
}

std::uint32_t& Ring::word(std::size_t index) const {
  return reinterpret_cast<std::uint32_t*>(base_)[index];
}

std::size_t Ring::readable() const {
  const std::uint32_t head = AtomicWord(word(kHead)).load(std::memory_order_relaxed);
  const std::uint32_t tail = AtomicWord(word(kTail)).load(std::memory_order_acquire);
  const std::uint32_t bytes = tail - head;
  if (bytes > kRingBytes) {
    throw Error(ErrorCode::kCorrupt, "ring: the peer claims {} bytes in a ring of {}", bytes,
                kRingBytes);
  }
  return bytes;
}

std::size_t Ring::writable() const {
  const std::uint32_t tail = AtomicWord(word(kTail)).load(std::memory_order_relaxed);
  const std::uint32_t head = AtomicWord(word(kHead)).load(std::memory_order_acquire);
  const std::uint32_t bytes = tail - head;
  if (bytes > kRingBytes) {
    throw Error(ErrorCode::kCorrupt, "ring: the peer claims {} bytes in a ring of {}", bytes,
                kRingBytes);
  }
  return kRingBytes - bytes;
}

std::size_t Ring::try_write(std::span<const iovec> pieces) {
  std::size_t room = writable();
  const std::uint32_t tail = AtomicWord(word(kTail)).load(std::memory_order_relaxed);
  std::size_t done = 0;
  for (const iovec& piece : pieces) {
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    std::size_t bytes = std::min(piece.iov_len, room);
    room -= bytes;
    while (bytes > 0) {
      const std::size_t at = (tail + done) % kRingBytes;
      const std::size_t run = std::min(bytes, kRingBytes - at);
      std::memcpy(data_ + at, from, run);
      from += run;
      done += run;
      bytes -= run;
    }
  }
  if (done > 0) {
    AtomicWord(word(kTail))
        .store(tail + static_cast<std::uint32_t>(done), std::memory_order_release);
  }
  return done;
}

std::size_t Ring::try_read(std::span<const iovec> pieces) {
  std::size_t there = readable();
  const std::uint32_t head = AtomicWord(word(kHead)).load(std::memory_order_relaxed);
  std::size_t done = 0;
  for (const iovec& piece : pieces) {
    auto* to = static_cast<std::byte*>(piece.iov_base);
    std::size_t bytes = std::min(piece.iov_len, there);
    there -= bytes;
    while (bytes > 0) {
      const std::size_t at = (head + done) % kRingBytes;
      const std::size_t run = std::min(bytes, kRingBytes - at);
      std::memcpy(to, data_ + at, run);
      to += run;
      done += run;
      bytes -= run;
    }
  }
  if (done > 0) {
    AtomicWord(word(kHead))
        .store(head + static_cast<std::uint32_t>(done), std::memory_order_release);
  }
  return done;
}

// Both sides: publish, full fence, look at the other's word. Either the sleeper sees the bytes in
// its last look, or the other sees that it sleeps.
void Ring::set_reader_asleep(bool asleep) {
  AtomicWord(word(kReaderAsleep)).store(asleep ? 1 : 0, std::memory_order_seq_cst);
}
void Ring::set_writer_waiting(bool waiting) {
  AtomicWord(word(kWriterWaiting)).store(waiting ? 1 : 0, std::memory_order_seq_cst);
}
bool Ring::reader_wants_ring() const {
  AtomicWord asleep(word(kReaderAsleep));
  // A read-modify-write orders the store of the position before it, and TSan understands it.
  return asleep.fetch_add(0, std::memory_order_seq_cst) != 0;
}
bool Ring::writer_wants_ring() const {
  AtomicWord waiting(word(kWriterWaiting));
  return waiting.fetch_add(0, std::memory_order_seq_cst) != 0;
}

}  // namespace treadle
