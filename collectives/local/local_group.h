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
  ConstBytes in;  // kBroadcast: unused, the buffer is `out` on every rank
  Bytes out;
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  Scale scale;
  int root = 0;  // index in the group
  std::uint32_t sequence =
      0;  // of the operation; consecutive calls have increasing numbers, may wrap
  Description description;
  FoldFunction fold = nullptr;
};

class LocalGroup {
 public:
  enum class Progress { kDone, kMoved, kBlocked };

  struct Mismatch {
    int index;  // which peer
    std::uint32_t sequence;
    Description theirs;
  };

  static std::size_t segment_bytes(int ranks, std::size_t window_bytes);

  // `segment` is zero when the first rank attaches and at least segment_bytes long. `doorbells[i]`
  // wakes peer i (null for this rank).
  LocalGroup(Bytes segment, int index, int ranks, std::size_t window_bytes,
             std::vector<std::shared_ptr<Doorbell>> doorbells);

  // Publishes the call (sequence and description, the announcement) and prepares it. The previous
  // call must be done.
  void begin(const LocalCall& call);
  // Moves the current call on by at most about one window of bytes. kBlocked: it waits for a peer.
  Progress step();
  bool busy() const;

  // A peer that announced another operation with the current call's sequence, if any. Checked by
  // step() whenever it is blocked.
  std::optional<Mismatch> mismatch() const;
  // Group indices that have not announced the current call's sequence yet.
  std::vector<int> missing() const;
  // Bytes of the current call that are complete here, for error texts.
  std::size_t done_bytes() const;

  // Sets this rank's asleep word (with a full fence), so that peers ring when they publish; call
  // step() once more after setting it, before sleeping.
  void announce_sleep(bool asleep);

 private:
  struct Shared;
  // …
};

}  // namespace treadle
