#include "collectives/communicator_state.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/hash.h"

namespace treadle {
namespace {

std::uint64_t identity_of(const CommunicatorOptions& options, const std::vector<int>& ranks) {
  Hash hash;
  hash.add(options.name).add(options.name.size()).add(options.generation);
  for (const int r : ranks) hash.add(static_cast<std::uint64_t>(r));
  return std::max<std::uint64_t>(hash.value(), 1);  // 0 names the link itself
}

std::vector<int> all_or(std::vector<int> ranks, int world) {
  if (!ranks.empty()) return ranks;
  ranks.resize(static_cast<std::size_t>(world));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

int index_of(const std::vector<int>& ranks, int world_rank) {
  const auto found = std::ranges::find(ranks, world_rank);
  if (found == ranks.end()) {
    throw std::invalid_argument(fmt::format("rank {} is not in the group's ranks [{}]", world_rank,
                                            fmt::join(ranks, ", ")));
  }
  return static_cast<int>(found - ranks.begin());
}

// The segment of a group of one, which shares it with nobody.
class OwnSegment final : public SharedSegment {
 public:
  explicit OwnSegment(std::size_t bytes) : words_(bytes / sizeof(std::uint64_t) + 1) {}
  Bytes bytes() override { return std::as_writable_bytes(std::span(words_)); }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace

CommunicatorState::CommunicatorState(std::shared_ptr<ContextState> owner,
                                     CommunicatorOptions wanted)
    : context(std::move(owner)),
      options(wanted),
      ranks(all_or(wanted.ranks, context->ranks)),
      rank(index_of(ranks, context->rank)),
      size(static_cast<int>(ranks.size())),
      timeout_ms(wanted.timeout.value_or(context->config.timeout).count()),
      id_(identity_of(options, ranks)),
      unmatched_bytes_(ranks.size()),
      landing_(ranks.size()),
      control_landing_(ranks.size()),
      landing_early_(ranks.size()),
      arrivals_(ranks.size()),
      called_(ranks.size()),
      left_(ranks.size()),
      flow_(context->mesh, id_, ranks, context->config.eager_bytes),
      point_to_point_(flow_) {
  context->engine.post([this, alive = alive_] {
    if (!*alive) return;
    guarded_on_loop([this] { context->mesh.add_sink_on_loop(id_, *this); });
  });
}

CommunicatorState::~CommunicatorState() { shutdown(); }

int CommunicatorState::rank_of_peer(int peer) const {
  const auto found = std::ranges::find(ranks, peer);
  return found == ranks.end() ? -1 : static_cast<int>(found - ranks.begin());
}

std::optional<Error> CommunicatorState::error() const {
  const std::lock_guard lock(error_mutex_);
  return error_;
}

// An Error that leaves `body` breaks the communicator, not the process and not the link.
void CommunicatorState::guarded_on_loop(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    fail_on_loop(error);
  } catch (const std::exception& error) {
    fail_on_loop(Error(ErrorCode::kBug, "{}", error.what()));
  }
}

// ---- starting ----

void CommunicatorState::start_on_loop(Pending pending) {
  const std::uint64_t sequence = pending.operation->sequence;
  auto& entry = pending_[sequence] = std::move(pending);
  if (broken_) {
    Error failure = *error();
    failure.add_context(entry.operation->text());
    return complete_on_loop(sequence, failure);
  }
  history_[sequence] = entry.operation->description;
  if (history_.size() > 1024) history_.erase(history_.begin());
  arm_watch_on_loop(std::min(entry.operation->deadline, announce_time(*entry.operation)));
  engage_on_loop();
  expect_nobody_left_on_loop();
  for (int r = 0; r < size; ++r) {
    const auto& arrival = arrivals_[static_cast<std::size_t>(r)];
    if (arrival && arrival->sequence == sequence) {
      compare_on_loop(r, sequence, arrival->description);
      announce_on_loop(entry);
    }
  }
  if (const auto early = early_.find(sequence); early != early_.end()) {
    for (const Early& message : early->second) check_agreement(message.peer, message.header);
  }
  if (context->mesh.ready_on_loop()) begin_on_loop(entry);
}

// First use: opens the control overlay and, on one host, the shared memory.
void CommunicatorState::engage_on_loop() {
  Mesh& mesh = context->mesh;
  if (engaged_ || !mesh.ready_on_loop()) return;
  engaged_ = true;
  map_hosts_on_loop();
  for (const int peer : ranks) {
    if (const auto& lost = mesh.lost_on_loop(peer)) throw *lost;
  }
  open_segment_on_loop();
  for (const int r : neighbours_) mesh.want_on_loop(ranks[static_cast<std::size_t>(r)]);
  build_local_on_loop();
}

// Who shares a host, as every rank derives it from the roster, and the overlay that follows.
void CommunicatorState::map_hosts_on_loop() {
  if (!host_of_rank_.empty()) return;
  for (const int here : ranks) {
    // A host's number is the first rank on it.
    const auto first = std::ranges::find_if(
        ranks, [&](int other) { return context->mesh.share_host_on_loop(other, here); });
    host_of_rank_.push_back(static_cast<int>(first - ranks.begin()));
  }
  neighbours_ = overlay_neighbours(rank, host_of_rank_);
}

std::size_t CommunicatorState::window_bytes() const {
  return std::max(context->config.window_bytes / LocalGroup::kLineBytes,
                  static_cast<std::uint64_t>(size)) *
         LocalGroup::kLineBytes;
}

// Rank 0 makes the segment and passes it to the others; build_local_on_loop goes on where it is.
void CommunicatorState::open_segment_on_loop() {
  Mesh& mesh = context->mesh;
  const std::size_t bytes = LocalGroup::segment_bytes(size, window_bytes());
  if (size == 1) {
    segment_ = std::make_shared<OwnSegment>(bytes);
    return;
  }
  if (std::ranges::any_of(host_of_rank_, [](int host) { return host != 0; })) return;
  for (const int peer : ranks) {  // everybody's doorbell is needed
    if (peer != context->rank) mesh.want_on_loop(peer);
  }
  if (rank != 0) return;
  segment_ = mesh.make_segment_on_loop(bytes);
  for (int r = 1; r < size; ++r) {
    const MessageHeader header{.kind = MessageKind::kSegment, .communicator = id_};
    mesh.post_on_loop(ranks[static_cast<std::size_t>(r)], Lane::kControl,
                      {.header = header,
                       .payload = {},
                       .priority = kUrgent,
                       .done = nullptr,
                       .segment = segment_});
  }
}

void CommunicatorState::build_local_on_loop() {
  if (local_ || !segment_) return;
  const auto window = window_bytes();
  const std::size_t needed = LocalGroup::segment_bytes(size, window);
  if (segment_->bytes().size() < needed) {
    throw Error(ErrorCode::kCorrupt, "the shared segment has {} bytes, {} are needed",
                segment_->bytes().size(), needed);
  }
  std::vector<std::shared_ptr<Doorbell>> doorbells(ranks.size());
  for (int r = 0; r < size; ++r) {
    if (r == rank) continue;
    auto& bell = doorbells[static_cast<std::size_t>(r)];
    bell = context->mesh.doorbell_on_loop(ranks[static_cast<std::size_t>(r)]);
    if (!bell) return;  // on_linked_on_loop comes back here
  }
  local_ =
      std::make_unique<LocalGroup>(segment_->bytes(), rank, size, window, std::move(doorbells));
  local_ready_.store(true, std::memory_order_release);
}

void CommunicatorState::begin_on_loop(Pending& pending) {
  if (!pending.is_local) {
    const Algorithm& algorithm = algorithm_for(pending.call, pending.options);
    pending.is_local = algorithm.name == "local";
    if (!pending.is_local) {
      not_local_.insert(pending.operation->sequence);
      skip_not_local_on_loop();
      return prepare_run(pending, algorithm);
    }
    pending.local = local_call(pending.call, pending.options, *pending.operation);
  }
  if (!polling_) {
    context->engine.add_poller_on_loop(*this);
    polling_ = true;
  }
}

// ---- operations over messages ----

// Algorithms that do not fold everything at once carry partials in the accumulation type, so that
// nothing is rounded or scaled on the way.
void CommunicatorState::prepare_run(Pending& pending, const Algorithm& algorithm) {
  const CollectiveCall& call = pending.call;
  const Scale scale = scale_of(call, pending.options);
  PlanData data{.in = call.in,
                .out = call.out,
                .dtype = call.dtype,
                .op = call.op,
                .scale = scale,
                .fold = context->fold.fold(call.dtype, call.op)};
  const bool is_16_bit = call.dtype == DType::kF16 || call.dtype == DType::kBF16;
  const bool partials =
      algorithm.order == OrderClass::kRing || algorithm.order == OrderClass::kTree;
  if (partials && (is_16_bit || scale.before != 1.0 || scale.divisor != 1.0)) {
    const std::size_t elems = call.in.size() / size_of(call.dtype);
    data.dtype = is_16_bit ? DType::kF32 : call.dtype;
    pending.workspace.resize(elems * size_of(data.dtype));
    if (is_16_bit) {
      widen_to_f32(call.dtype, call.in.data(), reinterpret_cast<float*>(pending.workspace.data()),
                   elems);
    } else {
      std::ranges::copy(call.in, pending.workspace.begin());
    }
    const std::byte* input = pending.workspace.data();
    if (scale.before != 1.0) {
      context->fold.fold(data.dtype, ReduceOp::kPremulSum)(
          pending.workspace.data(), &input, 1, elems, {.before = scale.before, .divisor = 1.0});
    }
    const std::size_t out_bytes = call.collective == Collective::kReduceScatter
                                      ? pending.workspace.size() / static_cast<std::size_t>(size)
                                      : pending.workspace.size();
    data.in = pending.workspace;
    if (call.collective == Collective::kReduceScatter) {
      pending.workspace.resize(pending.workspace.size() + out_bytes);
      data.in = ConstBytes(pending.workspace).first(elems * size_of(data.dtype));
    }
    data.out = Bytes(pending.workspace).last(out_bytes);
    data.scale = Scale{};
    data.fold = context->fold.fold(
        data.dtype,
        call.op == ReduceOp::kAvg || call.op == ReduceOp::kPremulSum ? ReduceOp::kSum : call.op);
  }
  const PlanInput input{
      .rank = rank, .ranks = size, .root = std::max(call.root, 0), .host_of_rank = host_of_rank_};
  const std::uint64_t sequence = pending.operation->sequence;
  pending.run =
      std::make_unique<PlanRun>(flow_, context->scratch_on_loop, algorithm.plan(input), data,
                                sequence, pending.operation->description, pending.options.priority,
                                [this, sequence] { after_run_on_loop(sequence); });
  pending.run->start();
  offer_early_on_loop(sequence, *pending.run);
}

// Called when something of a run has moved. Its end is handled later, off the run's own call stack.
void CommunicatorState::after_run_on_loop(std::uint64_t sequence) {
  post(
      [this, sequence] {
        const auto found = pending_.find(sequence);
        if (found == pending_.end() || !found->second.run) return;
        found->second.run->rethrow();
        if (!found->second.run->done()) return offer_early_on_loop(sequence, *found->second.run);
        finish_run(found->second);
        complete_on_loop(sequence, std::nullopt);
      },
      false);
}

void CommunicatorState::finish_run(Pending& pending) {
  if (pending.workspace.empty()) return;
  const CollectiveCall& call = pending.call;
  const Scale scale = scale_of(call, pending.options);
  const bool is_16_bit = call.dtype == DType::kF16 || call.dtype == DType::kBF16;
  const DType dtype = is_16_bit ? DType::kF32 : call.dtype;
  const std::size_t elems = call.out.size() / size_of(call.dtype);
  const Bytes result = Bytes(pending.workspace).last(elems * size_of(dtype));
  const std::byte* input = result.data();
  if (scale.divisor != 1.0) {
    context->fold.fold(dtype, ReduceOp::kAvg)(result.data(), &input, 1, elems,
                                              {.before = 1.0, .divisor = scale.divisor});
  }
  if (is_16_bit) {
    narrow_from_f32(call.dtype, reinterpret_cast<const float*>(result.data()), call.out.data(),
                    elems);
  } else {
    std::ranges::copy(result, call.out.begin());
  }
}

// Messages that came before they were welcome.
void CommunicatorState::offer_early_on_loop(std::uint64_t sequence, PlanRun& run) {
  const auto waiting = early_.find(sequence);
  if (waiting == early_.end()) return;
  std::erase_if(waiting->second, [&](Early& message) {
    const auto place = run.place(message.peer, message.header);
    if (!place) return false;
    std::ranges::copy(message.payload, place->begin());
    unmatched_bytes_[static_cast<std::size_t>(message.peer)] -= message.payload.size();
    run.arrived(message.peer, message.header);
    return true;
  });
  if (waiting->second.empty()) early_.erase(waiting);
}

void CommunicatorState::complete_on_loop(std::uint64_t sequence, std::optional<Error> failure) {
  const auto found = pending_.find(sequence);
  if (found == pending_.end()) return;
  const auto operation = found->second.operation;
  if (!found->second.local_begun || !found->second.is_local) queued_local_.fetch_sub(1);
  pending_.erase(found);
  flow_.forget(sequence);
  early_.erase(sequence);
  pending_count_.fetch_sub(1);
  operation->complete(std::move(failure));
  context->engine.notify_waiters_on_loop();
  if (someone_left_ && !broken_) post([this] { expect_nobody_left_on_loop(); }, false);
}

// ---- operations in shared memory ----

bool CommunicatorState::poll_on_loop() {
  bool moved = false;
  guarded_on_loop([&] { moved = step_local_on_loop(); });
  return moved;
}

// Local operations run in the order of their numbers; those that turned out not to be local have no
// turn.
void CommunicatorState::skip_not_local_on_loop() {
  while (not_local_.erase(local_turn_.load()) > 0) local_turn_.fetch_add(1);
}

bool CommunicatorState::step_local_on_loop() {
  if (!local_ || pending_.empty() || broken_) return false;
  skip_not_local_on_loop();
  const auto found = pending_.find(local_turn_.load());
  if (found == pending_.end() || !found->second.is_local) return false;
  Pending& pending = found->second;
  const std::uint64_t sequence = found->first;
  if (!pending.local_begun) {
    local_->begin(pending.local);
    pending.local_begun = true;
    queued_local_.fetch_sub(1);
  }
  const auto progress = local_->step();
  if (progress == LocalGroup::Progress::kBlocked) {
    if (const auto mismatch = local_->mismatch()) throw local_mismatch(*mismatch);
    return false;
  }
  if (progress == LocalGroup::Progress::kMoved) return true;
  if (local_asleep_) {
    local_->announce_sleep(false);
    local_asleep_ = false;
  }
  local_turn_.store(sequence + 1);
  complete_on_loop(sequence, std::nullopt);
  if (pending_.empty()) {
    context->engine.remove_poller_on_loop(*this);
    polling_ = false;
  }
  return true;
}

void CommunicatorState::announce_sleep_on_loop(bool asleep) {
  const auto found = pending_.find(local_turn_.load());
  if (!local_ || found == pending_.end() || !found->second.local_begun || asleep == local_asleep_)
    return;
  local_asleep_ = asleep;
  local_->announce_sleep(asleep);
}

}  // namespace treadle
