#include "transport/ring.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

enum Word : std::size_t {
  kTail = 0,
  kWriterWaiting = 1,
  kWriterClosed = 2,
  kHead = 16,
  kReaderAsleep = 17,
  kReaderClosed = 18,
};

std::uint32_t load(std::uint32_t* words, Word word) {
  return std::atomic_ref(words[word]).load(std::memory_order_seq_cst);
}
void store(std::uint32_t* words, Word word, std::uint32_t value) {
  std::atomic_ref(words[word]).store(value, std::memory_order_seq_cst);
}

std::uint32_t* words_of(Bytes memory) {
  TREADLE_CHECK(memory.size() > kRingHeaderBytes &&
                    memory.size() - kRingHeaderBytes <= (1U << 31) &&
                    std::has_single_bit(memory.size() - kRingHeaderBytes),
                "a ring in {} bytes", memory.size());
  TREADLE_CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0,
                "a ring that is not aligned to a cache line");
  return reinterpret_cast<std::uint32_t*>(memory.data());
}

std::size_t used_bytes(std::uint32_t tail, std::uint32_t head, std::size_t capacity_bytes) {
  const std::uint32_t bytes = tail - head;
  if (bytes > capacity_bytes) {
    throw Error(ErrorCode::kCorrupt,
                "shared-memory ring: written up to {}, read up to {}, which cannot be in a ring of "
                "{} bytes",
                tail, head, capacity_bytes);
  }
  return bytes;
}

// Calls copy(place in the ring, offset in the piece, piece, bytes) for every contiguous run of at
// most `limit_bytes` in total from `position` on.
template <typename Copy>
std::size_t for_each_run(std::span<const iovec> pieces, std::size_t limit_bytes, Bytes data,
                         std::uint32_t position, const Copy& copy) {
  std::size_t done = 0;
  for (const iovec& piece : pieces) {
    const std::size_t here = std::min(piece.iov_len, limit_bytes - done);
    for (std::size_t offset = 0; offset < here;) {
      const std::size_t at = (position + done) & (data.size() - 1);
      const std::size_t run = std::min(here - offset, data.size() - at);
      copy(data.data() + at, static_cast<std::byte*>(piece.iov_base) + offset, run);
      offset += run;
      done += run;
    }
  }
  return done;
}

}  // namespace

RingWriter::RingWriter(Bytes memory)
    : words_(words_of(memory)),
      data_(memory.subspan(kRingHeaderBytes)),
      tail_(load(words_, kTail)) {}

std::size_t RingWriter::writable_bytes() const {
  return data_.size() - used_bytes(tail_, load(words_, kHead), data_.size());
}

std::size_t RingWriter::try_write(std::span<const iovec> pieces) {
  const std::size_t done = for_each_run(
      pieces, writable_bytes(), data_, tail_,
      [](std::byte* ring, const std::byte* user, std::size_t n) { std::memcpy(ring, user, n); });
  if (done == 0) return 0;
  tail_ += static_cast<std::uint32_t>(done);
  store(words_, kTail, tail_);
  return done;
}

bool RingWriter::reader_wants_ring() const { return load(words_, kReaderAsleep) != 0; }
bool RingWriter::reader_closed() const { return load(words_, kReaderClosed) != 0; }
void RingWriter::set_waiting(bool waiting) { store(words_, kWriterWaiting, waiting ? 1 : 0); }
void RingWriter::close() { store(words_, kWriterClosed, 1); }

RingReader::RingReader(Bytes memory)
    : words_(words_of(memory)),
      data_(memory.subspan(kRingHeaderBytes)),
      head_(load(words_, kHead)) {}

std::size_t RingReader::readable_bytes() const {
  return used_bytes(load(words_, kTail), head_, data_.size());
}

std::size_t RingReader::try_read(std::span<const iovec> pieces) {
  const std::size_t done = for_each_run(
      pieces, readable_bytes(), data_, head_,
      [](const std::byte* ring, std::byte* user, std::size_t n) { std::memcpy(user, ring, n); });
  if (done == 0) return 0;
  head_ += static_cast<std::uint32_t>(done);
  store(words_, kHead, head_);
  return done;
}

bool RingReader::writer_wants_ring() const { return load(words_, kWriterWaiting) != 0; }
bool RingReader::writer_closed() const { return load(words_, kWriterClosed) != 0; }
void RingReader::set_asleep(bool asleep) { store(words_, kReaderAsleep, asleep ? 1 : 0); }
void RingReader::close() { store(words_, kReaderClosed, 1); }

}  // namespace treadle
