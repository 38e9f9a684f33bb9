// Runs one plan over messages, in lanes.
//
// A large operation is cut into lanes, each the same small part of every chunk; every lane runs the
// whole plan on its own, a few at a time, so that sending, receiving and folding of different lanes
// overlap. Which element lies in which chunk depends on the operation's size and the plan only,
// never on lanes or timing, so cutting changes no bit.
//
// What is received goes straight to its place: into the output, or into scratch from which the fold
// reads. Loop only. docs/design/003-plans.md.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/description.h"
#include "collectives/flow.h"
#include "collectives/plan.h"
#include "collectives/scratch.h"
#include "core/bytes.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/kernels/reduce.h"

namespace treadle {

// The data a plan works on.
struct PlanData {
  ConstBytes in = {};
  Bytes out = {};
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  Scale scale = {};
  FoldFunction fold = nullptr;
};

class PlanRun {
 public:
  PlanRun(Flow& flow, ScratchPool& pool, Plan plan, const PlanData& data, std::uint64_t sequence,
          const Description& description, int priority, std::function<void()> moved);
  ~PlanRun();
  PlanRun(const PlanRun&) = delete;
  PlanRun& operator=(const PlanRun&) = delete;

  void start();
  bool done() const { return lanes_done_ == lane_count_; }
  // Throws what went wrong while no caller was there to see it.
  void rethrow() const {
    if (failure_) throw *failure_;
  }

  // Where a segment's payload goes, or nothing if it is too early: then the caller keeps the bytes
  // and offers them again after the next `moved`. Throws kMismatch for a segment that this plan
  // does not expect.
  std::optional<Bytes> place(int peer, const MessageHeader& header);
  // The payload placed for this header is complete.
  void arrived(int peer, const MessageHeader& header);
  // A small message waits at the peer for a grant.
  void announced(const MessageName& name);

  // How far it is, for error texts: "3 of 8 parts done; round 2 of 7 waits for data of 3".
  std::string progress_text() const;

 private:
  struct Lane {
    std::uint32_t index = 0;
    std::size_t round = 0;
    int sends_left = 0;
    std::size_t granted_rounds = 0;         // rounds [0, granted_rounds) may arrive
    std::vector<std::uint64_t> got_bytes;   // per step of the plan, in flat order
    std::vector<std::uint64_t> want_bytes;  // kUnknown until its first header
    Bytes scratch;
    std::vector<std::size_t> scratch_bytes;  // what each slot holds; a slot fits any chunk
    bool done = false;
  };

  void pump();
  void start_lane();
  void enter_round(Lane& lane);
  void allow_rounds(Lane& lane);
  void advance(Lane& lane);
  bool round_complete(const Lane& lane) const;
  void finish_round(Lane& lane);
  void reduce(Lane& lane, const Step& step);
  void send(Lane& lane, const Step& step);
  Bytes bytes_of(const Lane& lane, const Place& place) const;
  ConstBytes readable(const Lane& lane, const Place& place) const;
  struct Span {
    std::size_t offset_bytes = 0;
    std::size_t bytes = 0;
  };
  std::size_t slot_bytes_of_lane() const;
  Span span_of(const Place& place, std::uint32_t lane) const;
  Lane* lane_of(std::uint32_t index);
  std::size_t find_recv(int peer, std::uint32_t round) const;

  Flow& flow_;
  const Plan plan_;
  const PlanData data_;
  const MessageHeader header_;  // what all messages of the run have in common
  const int priority_;
  const std::function<void()> moved_;  // a lane entered a round or the run ended
  const std::size_t elem_bytes_;
  const std::size_t longest_chunk_;  // elements
  const std::size_t lane_elems_;
  const std::uint32_t lane_count_;
  std::vector<std::size_t>
      first_step_;  // of each round, in the flat order of steps; then their number
  std::uint32_t lanes_started_ = 0;
  std::uint32_t lanes_done_ = 0;
  bool pumping_ = false;
  std::optional<Error> failure_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // in flight
  ScratchPool& pool_;
  ScratchBlock scratch_;
  std::vector<Bytes> free_scratch_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace treadle
