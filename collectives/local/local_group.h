// Direct collectives among the ranks of one host, in one shared segment: no point-to-point hops.
//
// One pass over all inputs, in rank order, fp32 accumulation for 16-bit types
// (core/kernels/reduce.h). Every word of the segment has one writer; no locks, allocators or
// pointers in it; what is read from it is copied once and checked. docs/design/004-local.md has the
// layout and the argument.
//
// One operation at a time, in the same order on all ranks. Threads: one at a time (the calling
// thread of an inline operation, or the loop); ring() of peers happens inside.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "collectives/description.h"
#include "collectives/plan.h"
#include "core/bytes.h"
#include "core/kernels/reduce.h"
#include "transport/engine.h"

namespace treadle {

// How a local operation must run; everything here but the pointers and factor is the same on all
// ranks.
struct LocalCall {
  LocalKind kind = LocalKind::kBarrier;
  ConstBytes in = {};  // kBroadcast: unused, the buffer is `out` on every rank
  Bytes out = {};
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  Scale scale = {};
  int root = 0;  // index in the group
  // Of the operation; consecutive calls have increasing numbers, may wrap.
  std::uint32_t sequence = 0;
  Description description = {};
  FoldFunction fold = nullptr;
};

class LocalGroup {
 public:
  static constexpr std::size_t kLineBytes = 64;
  enum class Progress { kDone, kMoved, kBlocked };

  struct Mismatch {
    int index;  // which peer
    std::uint32_t sequence;
    Description mine;
    Description theirs;
  };

  static std::size_t segment_bytes(int ranks, std::size_t window_bytes);
  // Makes a zeroed segment look as if `pieces` pieces had gone through it; tests of wrapping
  // counters.
  static void start_at(Bytes segment, int ranks, std::uint32_t pieces);

  // `segment` is zero when the first rank attaches and at least segment_bytes long; a window is
  // whole lines of kLineBytes, one per rank or more. `doorbells[i]`
  // wakes peer i (null for this rank).
  LocalGroup(Bytes segment, int index, int ranks, std::size_t window_bytes,
             std::vector<std::shared_ptr<Doorbell>> doorbells);

  // Publishes the call (sequence and description, the announcement) and prepares it. The previous
  // call must be done.
  void begin(const LocalCall& call);
  // Moves the current call on by at most about one window of bytes. kBlocked: it waits for a peer,
  // or mismatch() says why it never will go on.
  Progress step();

  // A peer that announced another operation with the sequence of the current call or of one of the
  // two before it, if any.
  std::optional<Mismatch> mismatch() const;
  // Group indices that have not announced the current call's sequence yet.
  std::vector<int> missing() const;
  // Bytes of the current call that are complete here, for error texts.
  std::size_t done_bytes() const { return std::size_t{out_} * piece_bytes_; }

  // Sets this rank's asleep word (with a full fence), so that peers ring when they publish; call
  // step() once more after setting it, before sleeping.
  void announce_sleep(bool asleep);

 private:
  enum Counter : std::size_t { kCopied, kReduced, kFinished, kAsleep };

  std::uint32_t load(int rank, Counter counter) const;
  void publish(Counter counter, std::uint32_t value);
  void ring_sleepers();
  std::uint64_t announcement_of(int rank, std::uint64_t call) const;
  Description description_of(int rank, std::uint64_t call) const;
  bool agrees(int rank, std::uint64_t calls);
  bool reached(int rank, Counter counter, std::uint32_t value) const;
  bool all_reached(Counter counter, std::uint32_t value, bool need_agreement);
  bool window_free();
  bool inputs_ready();
  std::byte* block(int rank) const;
  std::byte* staging(int rank, std::uint32_t piece) const;
  std::byte* result(std::uint32_t piece) const;
  std::size_t bytes_of_piece(std::uint32_t piece) const;
  void plan_pieces();
  void copy_in();
  void reduce_slice();
  void copy_out();
  struct Slice {
    std::size_t begin;  // bytes within a piece
    std::size_t end;
  };
  Slice own_slice(std::size_t bytes) const;
  void fold_from_staging(std::byte* to, std::uint32_t piece, std::size_t from_byte,
                         std::size_t bytes, const std::byte* own);

  const Bytes segment_;
  const int index_;
  const int ranks_;
  const std::size_t window_bytes_;
  const std::vector<std::shared_ptr<Doorbell>> doorbells_;
  std::vector<const std::byte*> inputs_;  // of one fold
  std::vector<std::uint64_t> agreed_;     // by rank: how many of its calls have been compared

  LocalCall call_;
  std::uint64_t calls_ = 0;      // begun
  std::uint32_t base_ = 0;       // pieces of all calls before this one, modulo 2^32
  std::uint32_t pieces_ = 0;     // of this call; the next three count up to it
  std::uint32_t in_ = 0;         // staged
  std::uint32_t reduced_ = 0;    // own slice folded
  std::uint32_t out_ = 0;        // complete
  std::size_t piece_bytes_ = 0;  // of one block's part in one piece
  std::size_t block_bytes_ = 0;  // of the whole call, per block
  bool sliced_ = false;  // fold slices into the result, or everything straight into the output
};

}  // namespace treadle
