// The inside of a Communicator: submission, the operations in flight, and what arrives for them.
//
// An operation gets its number when it is submitted. One that runs in shared memory is run by the
// calling thread if that thread is going to wait, nothing else is in flight and the group stands
// ("inline"); else, and as soon as it would have to sleep, it is a pending operation of the loop.
// Both use the same numbers and the same shared words, so ranks may differ in it.
// docs/design/002-progress.md.
//
// Members that end in `_on_loop`, and all data below "loop only", belong to the loop.
#pragma once
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "collectives/algorithms.h"
#include "collectives/communicator.h"
#include "collectives/context_state.h"
#include "collectives/executor.h"
#include "collectives/flow.h"
#include "collectives/local/local_group.h"
#include "collectives/operation.h"
#include "collectives/point_to_point.h"

namespace treadle {

// A collective call as submitted.
struct CollectiveCall {
  Collective collective = Collective::kBarrier;
  ConstBytes in = {};
  Bytes out = {};
  DType dtype = DType::kU8;
  ReduceOp op = ReduceOp::kSum;
  int root = -1;
  std::uint64_t elems = 0;                                  // as Description::elems
  std::shared_ptr<const std::vector<std::byte>> copy = {};  // `in`, where `out` overlaps it
};

class CommunicatorState final : public Mesh::Sink, public Engine::Poller {
 public:
  CommunicatorState(std::shared_ptr<ContextState> context, CommunicatorOptions options);
  ~CommunicatorState() override;

  // ---- any thread ----
  Work submit(const CollectiveCall& call, const CallOptions& options);
  Work submit_point_to_point(PointToPointCall call, DType dtype, const CallOptions& options);
  void abort(std::string_view reason);
  void shutdown();
  std::optional<Error> error() const;

  const std::shared_ptr<ContextState> context;
  const CommunicatorOptions options;
  const std::vector<int> ranks;  // mesh rank of each rank here
  const int rank;
  const int size;
  std::atomic<std::int64_t> timeout_ms;
  std::atomic<std::uint64_t> next_sequence{0};

  // ---- Mesh::Sink, Engine::Poller ----
  std::optional<Bytes> on_header_on_loop(int peer, const MessageHeader& header) override;
  void on_payload_on_loop(int peer, const MessageHeader& header,
                          std::shared_ptr<SharedSegment> segment) override;
  void on_peer_lost_on_loop(int peer, const Error& error) override;
  void on_ready_on_loop() override;
  void on_linked_on_loop(int peer) override;
  void on_unusable_on_loop(const Error& error, bool alone) override;
  bool poll_on_loop() override;
  void announce_sleep_on_loop(bool asleep) override;

 private:
  struct Pending {
    std::shared_ptr<Operation> operation;
    CollectiveCall call;
    CallOptions options;
    LocalCall local = {};
    bool is_local = false;
    bool local_begun = false;
    bool announced = false;
    std::unique_ptr<PlanRun> run = {};
    std::vector<std::byte> workspace = {};  // partials in the accumulation type
  };
  class PendingCall;
  struct Early {
    int peer;
    MessageHeader header;
    std::vector<std::byte> payload;
  };
  struct Arrival {
    std::uint64_t sequence = 0;
    Description description;
  };

  // submission.cc
  bool refuses() const;  // takes no further calls
  Error refusal_of(const Operation& call) const;
  Description describe(const CollectiveCall& call, const CallOptions& options) const;
  const Algorithm& algorithm_for(const CollectiveCall& call, const CallOptions& options) const;
  LocalCall local_call(const CollectiveCall& call, const CallOptions& options,
                       const Operation& operation) const;
  Scale scale_of(const CollectiveCall& call, const CallOptions& options) const;
  bool run_inline(const std::shared_ptr<Operation>& operation, const LocalCall& call);
  milliseconds timeout_for(const CallOptions& options) const;
  void post(std::function<void()> function, bool caller_waits);

  // communicator_state.cc: operations in flight
  void start_on_loop(Pending pending);
  void begin_on_loop(Pending& pending);
  void prepare_run(Pending& pending, const Algorithm& algorithm);
  void offer_early_on_loop(std::uint64_t sequence, PlanRun& run);
  void after_run_on_loop(std::uint64_t sequence);
  void finish_run(Pending& pending);
  void complete_on_loop(std::uint64_t sequence, std::optional<Error> error);
  void engage_on_loop();
  void map_hosts_on_loop();
  void open_segment_on_loop();
  void build_local_on_loop();
  bool step_local_on_loop();
  void skip_not_local_on_loop();
  void guarded_on_loop(const std::function<void()>& body);
  std::optional<Bytes> data_header_on_loop(int from, const MessageHeader& header);
  void data_payload_on_loop(int from, const MessageHeader& header);
  int rank_of_peer(int peer) const;

  // failure.cc: deadlines, disagreement, loss, and telling everybody
  void fail_on_loop(Error error);
  void report_failure_on_loop();
  void flood_on_loop(MessageHeader header, const std::vector<std::byte>& payload, int except);
  void control_on_loop(int from, const MessageHeader& header, ConstBytes payload);
  void announcement_on_loop(int from, const MessageHeader& header, ConstBytes payload);
  void failure_on_loop(int from, ConstBytes payload);
  // Of one rank in the segment: whole cache lines, and at least one per rank.
  std::size_t window_bytes() const;
  void give_up_on_left_on_loop(int gone);
  void expect_nobody_left_on_loop() const;  // throws
  void goodbye_on_loop(int from, const MessageHeader& header, ConstBytes payload);
  void announce_on_loop(Pending& pending);
  void note_called_on_loop(int who, std::uint64_t sequence);
  void check_agreement(int from, const MessageHeader& header) const;
  void compare_on_loop(int other, std::uint64_t sequence, const Description& theirs) const;
  void watch_on_loop();
  void arm_watch_on_loop(Deadline at);
  Deadline announce_time(const Operation& operation) const;
  Error timeout_error(const Pending& pending) const;
  Error local_mismatch(const LocalGroup::Mismatch& mismatch) const;
  std::string rank_text(int rank_here) const;
  void close_on_loop();

  const std::uint64_t id_;
  std::atomic<bool> broken_{false};
  std::atomic<bool> closing_{false};   // shutdown() has begun
  std::atomic<bool> reported_{false};  // a failure has been sent to whoever can be told
  mutable std::mutex error_mutex_;
  std::optional<Error> error_;  // guarded by error_mutex_
  std::atomic<int> pending_count_{0};
  std::atomic<bool> local_ready_{false};
  std::atomic<std::uint64_t> local_turn_{0};  // the operation that may use local_ now
  std::atomic<int> queued_local_{0};
  bool closed_ = false;
  std::mutex close_mutex_;

  // ---- loop only, but for local_ (see above) ----
  std::unique_ptr<LocalGroup> local_;
  std::shared_ptr<SharedSegment> segment_;
  std::vector<int> host_of_rank_;  // empty until the roster is here
  std::vector<int> neighbours_;    // in the control overlay
  bool engaged_ = false;
  bool polling_ = false;
  bool local_asleep_ = false;
  std::map<std::uint64_t, Pending> pending_;
  std::set<std::uint64_t> not_local_;  // numbers that never use local_, not passed yet
  std::map<std::uint64_t, std::vector<Early>> early_;
  std::vector<std::uint64_t> unmatched_bytes_;           // by rank
  std::vector<std::vector<std::byte>> landing_;          // by rank: early data
  std::vector<std::vector<std::byte>> control_landing_;  // by rank
  std::vector<bool> landing_early_;
  std::map<std::uint64_t, Description> history_;  // the last 1,024 operations of the loop
  std::vector<std::optional<Arrival>> arrivals_;
  std::vector<std::uint64_t> called_;  // by rank: operations it is known to have called
  std::vector<std::optional<std::uint64_t>> left_;  // operations after which a rank said goodbye
  bool someone_left_ = false;
  std::optional<Deadline> watch_at_;
  std::uint64_t watch_timer_ = 0;
  Flow flow_;
  PointToPoint point_to_point_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// The control overlay of a communicator: a star per host around its lowest rank, and a binary tree
// over those. Removing any ranks leaves every remaining part next to one of them, so a loss is seen
// by a neighbour in each part. Returns the neighbours of `rank`.
std::vector<int> overlay_neighbours(int rank, const std::vector<int>& host_of_rank);

}  // namespace treadle
