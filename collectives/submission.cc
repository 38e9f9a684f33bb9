// Submitting operations: numbering, descriptions, and running small ones in the calling thread.
#include <sched.h>

#include <functional>
#include <thread>

#include "collectives/communicator_state.h"
#include "collectives/selection.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/processor.h"

namespace treadle {
namespace {

// How long an inline operation waits in the calling thread before it becomes a pending one. Where
// every rank has a CPU of its own, looking at memory is worth some 20 microseconds; elsewhere the
// CPU is offered to others.
constexpr int kSpinsWithRoom = 1500;
constexpr int kSpinsCrowded = 20;
constexpr int kInlineYields = 20;

// Where the input may lie in the output, or the output in the input; null: nowhere.
const std::byte* place_of_input(const CollectiveCall& call, int rank) {
  const auto at = static_cast<std::ptrdiff_t>(rank);
  switch (call.collective) {
    case Collective::kAllGather:
    case Collective::kGather:
      return call.out.data() + at * static_cast<std::ptrdiff_t>(call.in.size());
    case Collective::kReduceScatter:
    case Collective::kScatter:
      return call.out.data() - at * static_cast<std::ptrdiff_t>(call.out.size());
    case Collective::kAllToAll:
      return nullptr;
    default:
      return call.out.data();
  }
}

// An input that overlaps the output in another way would be written before it has been read.
CollectiveCall with_input_apart(CollectiveCall call, int rank) {
  const std::less<> before;
  const bool overlap = !call.in.empty() && !call.out.empty() &&
                       before(call.in.data(), call.out.data() + call.out.size()) &&
                       before(call.out.data(), call.in.data() + call.in.size());
  if (!overlap || call.in.data() == place_of_input(call, rank)) return call;
  call.copy = std::make_shared<const std::vector<std::byte>>(call.in.begin(), call.in.end());
  call.in = *call.copy;
  return call;
}

std::uint64_t hash_of(std::string_view text) { return Hash().add(text).value(); }

Call call_of(Collective collective) { return static_cast<Call>(collective); }
static_assert(static_cast<int>(Call::kBarrier) == static_cast<int>(Collective::kBarrier));
static_assert(static_cast<int>(Call::kAllToAll) == static_cast<int>(Collective::kAllToAll));

}  // namespace

// A call counts among the pending ones from before it is checked until its end, or until it has
// been refused. So either shutdown() waits for it, or it sees that shutdown() has begun.
class CommunicatorState::PendingCall {
 public:
  explicit PendingCall(CommunicatorState& state) : state_(&state) {
    state.context->check_process();
    state.pending_count_.fetch_add(1);
  }
  ~PendingCall() {
    if (!state_) return;
    state_->pending_count_.fetch_sub(1);
    if (!state_->closing_) return;
    Engine& engine = state_->context->engine;
    engine.post([&engine] { engine.notify_waiters_on_loop(); });
  }
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;
  void leave_to_loop() { state_ = nullptr; }

 private:
  CommunicatorState* state_;
};

bool CommunicatorState::refuses() const { return broken_.load() || closing_.load(); }

Error CommunicatorState::refusal_of(const Operation& call) const {
  const auto failure = error();
  if (!failure) {
    return Error(ErrorCode::kAborted, "{}: group '{}' is being shut down on this rank", call.text(),
                 options.name);
  }
  Error refusal = *failure;
  refusal.add_context(fmt::format("{}: group '{}' is broken, rebuild it before the next call",
                                  call.text(), options.name));
  return refusal;
}

milliseconds CommunicatorState::timeout_for(const CallOptions& call) const {
  return call.timeout.value_or(milliseconds(timeout_ms.load()));
}

Description CommunicatorState::describe(const CollectiveCall& call, const CallOptions& opts) const {
  Description d{.call = call_of(call.collective),
                .dtype = call.dtype,
                .op = call.op,
                .root = call.root,
                .elems = call.elems,
                .override_hash = opts.algorithm.empty() ? 0 : hash_of(opts.algorithm)};
  if (call.op == ReduceOp::kPremulSum) {
    // The factor is applied where the fold runs, so all ranks must give the same one.
    d.override_hash ^= hash_of(fmt::format("premul {}", opts.premul_factor));
  }
  return d;
}

Scale CommunicatorState::scale_of(const CollectiveCall& call, const CallOptions& opts) const {
  return {.before = call.op == ReduceOp::kPremulSum ? opts.premul_factor : 1.0,
          .divisor = call.op == ReduceOp::kAvg ? size : 1.0};
}

const Algorithm& CommunicatorState::algorithm_for(const CollectiveCall& call,
                                                  const CallOptions& opts) const {
  const SelectionInput input{.collective = call.collective,
                             .bytes = std::max(call.in.size(), call.out.size()),
                             .plan = {.rank = rank,
                                      .ranks = size,
                                      .root = std::max(call.root, 0),
                                      .host_of_rank = host_of_rank_}};
  const std::string_view wanted = opts.algorithm.empty()
                                      ? configured_algorithm(context->config, call.collective)
                                      : opts.algorithm;
  return select_algorithm(input, wanted);
}

LocalCall CommunicatorState::local_call(const CollectiveCall& call, const CallOptions& opts,
                                        const Operation& operation) const {
  const auto kind = [&] {
    switch (call.collective) {
      case Collective::kAllReduce:
        return LocalKind::kAllReduce;
      case Collective::kReduceScatter:
        return LocalKind::kReduceScatter;
      case Collective::kAllGather:
        return LocalKind::kAllGather;
      case Collective::kBroadcast:
        return LocalKind::kBroadcast;
      default:
        return LocalKind::kBarrier;
    }
  }();
  return {.kind = kind,
          .in = call.in,
          .out = call.out,
          .dtype = call.dtype,
          .op = call.op,
          .scale = scale_of(call, opts),
          .root = std::max(call.root, 0),
          .sequence = static_cast<std::uint32_t>(operation.sequence),
          .description = operation.description,
          .fold = context->fold.fold(call.dtype, call.op)};
}

void CommunicatorState::post(std::function<void()> function, bool caller_waits) {
  auto guarded = [this, alive = alive_, function = std::move(function)] {
    if (*alive) guarded_on_loop(function);
  };
  if (caller_waits) {
    context->engine.post_before_wait(std::move(guarded));
  } else {
    context->engine.post(std::move(guarded));
  }
}

Work CommunicatorState::submit(const CollectiveCall& given, const CallOptions& opts) {
  const CollectiveCall call = with_input_apart(given, rank);
  if (!opts.algorithm.empty()) check_algorithm_name(call.collective, opts.algorithm);
  // local_ready_ is set when the whole group is on this host and its segment stands. Ranks may
  // see that at different operations: inline and pending ones are the same to the others.
  const bool local_stands = local_ready_.load(std::memory_order_acquire);
  const bool is_local = local_stands && algorithm_for(call, opts).name == "local";
  PendingCall counted(*this);
  const Description description = describe(call, opts);
  if (refuses()) {
    throw refusal_of(Operation(context, description, next_sequence.load(), timeout_for(opts)));
  }
  const std::uint64_t sequence = next_sequence.fetch_add(1);
  auto operation = std::make_shared<Operation>(context, description, sequence, timeout_for(opts));
  Pending pending{.operation = operation, .call = call, .options = opts};
  if (is_local) {
    pending.is_local = true;
    pending.local = local_call(call, opts, *operation);
    if (opts.blocking && local_turn_.load() == sequence) {
      if (run_inline(operation, pending.local)) return Work(operation);
      pending.local_begun = true;
    }
  }
  counted.leave_to_loop();
  if (!pending.local_begun) queued_local_.fetch_add(1);
  auto shared = std::make_shared<Pending>(std::move(pending));
  post([this, shared] { start_on_loop(std::move(*shared)); }, opts.blocking);
  return Work(operation);
}

// Returns false if the operation has to wait longer than this thread should look at memory.
bool CommunicatorState::run_inline(const std::shared_ptr<Operation>& operation,
                                   const LocalCall& call) {
  static const int kCpus = allowed_cpus();
  const int spins = size <= kCpus ? kSpinsWithRoom : kSpinsCrowded;
  try {
    local_->begin(call);
    int idle = 0;
    while (true) {
      const auto progress = local_->step();
      if (progress == LocalGroup::Progress::kDone) break;
      if (progress == LocalGroup::Progress::kMoved) {
        idle = 0;
        continue;
      }
      if (broken_.load(std::memory_order_relaxed) || local_->mismatch() ||
          ++idle > spins + kInlineYields) {
        return false;
      }
      if (idle <= spins) {
        cpu_relax();
      } else {
        ::sched_yield();
      }
    }
  } catch (const Error& failure) {
    post([this, failure] { fail_on_loop(failure); }, false);
    operation->complete(failure);
    return true;
  }
  local_turn_.store(operation->sequence + 1);
  operation->complete(std::nullopt);
  if (queued_local_.load() > 0) context->engine.wake();
  return true;
}

Work CommunicatorState::submit_point_to_point(PointToPointCall call, DType dtype,
                                              const CallOptions& opts) {
  const std::size_t bytes = call.is_send ? call.data.size() : call.place.size();
  const Description what{.call = Call::kPointToPoint,
                         .dtype = dtype,
                         .op = ReduceOp::kSum,
                         .root = -1,
                         .elems = bytes / size_of(dtype),
                         .override_hash = 0};
  PendingCall counted(*this);
  auto operation = std::make_shared<Operation>(context, what, 0, timeout_for(opts),
                                               OtherSide{call.is_send, call.peer});
  if (refuses()) throw refusal_of(*operation);
  counted.leave_to_loop();
  post(
      [this, operation, call, priority = opts.priority] {
        if (broken_) {
          pending_count_.fetch_sub(1);
          operation->complete(refusal_of(*operation));
          return context->engine.notify_waiters_on_loop();
        }
        point_to_point_.add(operation, call.peer);
        engage_on_loop();
        arm_watch_on_loop(operation->deadline);
        if (left_[static_cast<std::size_t>(call.peer)]) give_up_on_left_on_loop(call.peer);
        point_to_point_.start(operation, call, priority, [this](const auto& finished) {
          pending_count_.fetch_sub(1);
          finished->complete(std::nullopt);
          context->engine.notify_waiters_on_loop();
        });
      },
      opts.blocking);
  return Work(operation);
}

}  // namespace treadle
