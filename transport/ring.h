// A byte ring in shared memory with one writer and one reader, which may be in different processes.
//
// Layout (each word has one writer, each line one side):
//   line 0  u32 tail            bytes written so far, modulo 2^32      writer
//           u32 writer_waiting  the writer wants a ring when space comes
//   line 1  u32 head            bytes read so far                      reader
//           u32 reader_asleep   the reader wants a ring when bytes come
//   line 2  kRingBytes of data
//
// Positions read from the other side are copied once and checked: nonsense is kCorrupt, never an
// access outside. Threads: one writer, one reader.
#pragma once
#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "core/bytes.h"

namespace treadle {

class Ring {
 public:
  static constexpr std::size_t kRingBytes = 1 << 20;
  static constexpr std::size_t kSharedBytes = 128 + kRingBytes;

  // `memory`: kSharedBytes, 64-byte aligned, zero before the first use.
  explicit Ring(Bytes memory);

  // Bytes moved; 0: full or empty. Throws Error(kCorrupt) if the other side's position makes no
  // sense.
  std::size_t try_write(std::span<const iovec> pieces);
  std::size_t try_read(std::span<const iovec> pieces);
  std::size_t readable() const;
  std::size_t writable() const;

  void set_reader_asleep(bool asleep);
  void set_writer_waiting(bool waiting);
  // To be asked after moving bytes: does the other side want to be rung?
  bool reader_wants_ring() const;
  bool writer_wants_ring() const;

 private:
  std::uint32_t& word(std::size_t index) const;

  std::byte* base_;
  std::byte* data_;
};

}  // namespace treadle
