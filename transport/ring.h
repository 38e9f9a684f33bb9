// A byte ring in shared memory with one writer and one reader, which may be in different processes.
//
// Layout, as u32 words. Every word has one writer, and a cache line belongs to one side:
//   0    tail            bytes written so far, modulo 2^32           writer
//   1    writer_waiting  the writer sleeps and wants a ring for room writer
//   2    writer_closed   nothing follows tail                        writer
//   16   head            bytes read so far, modulo 2^32              reader
//   17   reader_asleep   the reader sleeps and wants a ring for data reader
//   18   reader_closed   nobody reads any more                       reader
//   32   the data, a power of two of bytes
//
// A position read from the other side is copied once and checked: nonsense is Error(kCorrupt),
// never an access outside. A side keeps its own position to itself and only publishes it.
//
// Sleeping: the sleeper stores its word and looks at the position once more; the other side stores
// its position and looks at the word. All four are sequentially consistent, so at least one of the
// two sees the other and no wake-up is lost. Threads: one writer, one reader.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "core/bytes.h"

namespace treadle {

inline constexpr std::size_t kRingHeaderBytes = 128;

// The shared memory that a ring of this capacity takes.
constexpr std::size_t ring_bytes(std::size_t capacity_bytes) {
  return kRingHeaderBytes + capacity_bytes;
}

class RingWriter {
 public:
  // `memory`: ring_bytes(a power of two), 64-byte aligned, zero before the first use of the ring.
  explicit RingWriter(Bytes memory);

  std::size_t writable_bytes() const;
  // Bytes written, 0 if it is full. Look at reader_wants_ring() afterwards.
  std::size_t try_write(std::span<const iovec> pieces);
  bool reader_wants_ring() const;
  bool reader_closed() const;
  void set_waiting(bool waiting);
  void close();

 private:
  std::uint32_t* words_;
  Bytes data_;
  std::uint32_t tail_;
};

class RingReader {
 public:
  explicit RingReader(Bytes memory);

  std::size_t readable_bytes() const;
  // Bytes read, 0 if it is empty. Look at writer_wants_ring() afterwards.
  std::size_t try_read(std::span<const iovec> pieces);
  bool writer_wants_ring() const;
  // To be asked before readable_bytes(), so that the last bytes are not missed.
  bool writer_closed() const;
  void set_asleep(bool asleep);
  void close();

 private:
  std::uint32_t* words_;
  Bytes data_;
  std::uint32_t head_;
};

}  // namespace treadle
