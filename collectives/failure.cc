// How a communicator fails: deadlines, disagreement, lost ranks, and telling every member
// (contracts 1, 3). docs/design/005-failures.md.
#include <algorithm>

#include "collectives/communicator_state.h"
#include "core/error.h"
#include "core/wire.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxErrorText = 4096;
constexpr milliseconds kAnnounceAfter{1000};
constexpr milliseconds kLastWords{1000};

std::string list_of(const std::vector<int>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

}  // namespace

std::vector<int> overlay_neighbours(int rank, const std::vector<int>& host_of_rank) {
  std::vector<int> leaders;  // lowest rank of each host, in rank order
  std::vector<int> hosts;
  std::vector<int> my_host;
  const int here = host_of_rank[static_cast<std::size_t>(rank)];
  for (int r = 0; r < static_cast<int>(host_of_rank.size()); ++r) {
    const int host = host_of_rank[static_cast<std::size_t>(r)];
    if (std::ranges::find(hosts, host) == hosts.end()) {
      hosts.push_back(host);
      leaders.push_back(r);
    }
    if (host == here) my_host.push_back(r);
  }
  if (my_host.front() != rank) return {my_host.front()};
  std::vector<int> neighbours(my_host.begin() + 1, my_host.end());
  const auto at = static_cast<std::size_t>(std::ranges::find(leaders, rank) - leaders.begin());
  if (at > 0) neighbours.push_back(leaders[(at - 1) / 2]);
  for (const std::size_t child : {2 * at + 1, 2 * at + 2}) {
    if (child < leaders.size()) neighbours.push_back(leaders[child]);
  }
  return neighbours;
}

std::string CommunicatorState::rank_text(int here) const {
  const int global = ranks[static_cast<std::size_t>(here)];
  return here == global
             ? fmt::format("rank {}", global)
             : fmt::format("rank {} (rank {} of group '{}')", global, here, options.name);
}

// ---- the end ----

void CommunicatorState::fail_on_loop(Error failure) {
  if (broken_) return;
  {
    const std::lock_guard lock(error_mutex_);
    error_ = failure;
  }
  broken_.store(true);
  // From here on nothing of this communicator is written to by the loop.
  context->mesh.cancel_on_loop(id_);
  if (polling_) context->engine.remove_poller_on_loop(*this);
  polling_ = false;

  try {
    report_failure_on_loop();
  } catch (const std::exception& error) {
    context->log(LogLevel::kWarn, "the others cannot be told: {}", error.what());
  }
  for (auto& operation : point_to_point_.pending()) {
    Error error = failure;
    error.add_context(operation->text());
    pending_count_.fetch_sub(1);
    operation->complete(error);
  }
  point_to_point_.clear();
  while (!pending_.empty()) {
    Pending& pending = pending_.begin()->second;
    if (pending.run && pending.run->done()) {  // before the failure, only not told yet
      finish_run(pending);
      complete_on_loop(pending_.begin()->first, std::nullopt);
      continue;
    }
    Error error = failure;
    std::string doing = pending.operation->text();
    if (pending.run) doing += fmt::format(", {}", pending.run->progress_text());
    if (pending.local_begun && local_)
      doing += fmt::format(", {} bytes done", local_->done_bytes());
    error.add_context(doing);
    complete_on_loop(pending_.begin()->first, error);
  }
  early_.clear();
  context->engine.notify_waiters_on_loop();
}

// Sent once, as soon as there are addresses to send it to.
void CommunicatorState::report_failure_on_loop() {
  if (reported_ || !context->mesh.ready_on_loop()) return;
  map_hosts_on_loop();
  const Error failure = *error();
  WireBuffer payload;
  payload.put(static_cast<std::uint8_t>(failure.code()));
  payload.put(static_cast<std::int32_t>(failure.failed_rank()));
  payload.put_string(std::string_view(failure.what()).substr(0, kMaxErrorText));
  flood_on_loop({.kind = MessageKind::kFailure}, payload.bytes(), -1);
  reported_.store(true);
  context->engine.notify_waiters_on_loop();
}

void CommunicatorState::flood_on_loop(MessageHeader header, const std::vector<std::byte>& payload,
                                      int except) {
  for (const int r : neighbours_) {
    if (r != except) flow_.send_control(r, header, payload);
  }
  if (header.kind == MessageKind::kHeartbeat) return;
  // An end also goes straight to whoever has a lane already: the overlay itself may be broken, and
  // what is said last must come before the end of the lane does.
  for (int r = 0; r < size; ++r) {
    if (r == rank || r == except || std::ranges::find(neighbours_, r) != neighbours_.end())
      continue;
    if (context->mesh.in_touch_on_loop(ranks[static_cast<std::size_t>(r)])) {
      flow_.send_control(r, header, payload);
    }
  }
}

// What a rank sends for an operation proves that it has called it.
void CommunicatorState::note_called_on_loop(int who, std::uint64_t sequence) {
  auto& called = called_[static_cast<std::size_t>(who)];
  called = std::max(called, sequence + 1);
}

void CommunicatorState::control_on_loop(int from, const MessageHeader& header, ConstBytes payload) {
  switch (header.kind) {
    case MessageKind::kGrant:
      if (header.lane != kPointToPointLane) note_called_on_loop(from, header.sequence);
      return flow_.on_grant(from, header);
    case MessageKind::kAnnounce: {
      flow_.on_announce(from, header);
      if (header.lane == kPointToPointLane) return point_to_point_.on_announce(from, header);
      note_called_on_loop(from, header.sequence);
      const auto found = pending_.find(header.sequence);
      if (found != pending_.end() && found->second.run)
        found->second.run->announced(name_in(from, header));
      return;
    }
    case MessageKind::kHeartbeat:
      return announcement_on_loop(from, header, payload);
    case MessageKind::kFailure:
      return failure_on_loop(from, payload);
    case MessageKind::kGoodbye:
      return goodbye_on_loop(from, header, payload);
    default:
      return;  // kConsumed: its header was all
  }
}

void CommunicatorState::failure_on_loop(int from, ConstBytes payload) {
  if (broken_) return;
  WireReader r(payload);
  const auto code =
      std::min(r.get<std::uint8_t>(), static_cast<std::uint8_t>(ErrorCode::kUnsupported));
  auto failed = r.get<std::int32_t>();
  if (std::ranges::find(ranks, failed) == ranks.end()) failed = -1;
  auto text = r.get_string(kMaxErrorText);
  std::ranges::replace_if(
      text, [](char c) { return c != '\n' && (c < ' ' || c == 127); }, '?');
  const std::string prefix = fmt::format("{} reports: ", rank_text(from));
  // The first report already says who saw it; those who pass it on add nothing.
  const bool passed_on = text.find(" reports: ") != std::string::npos;
  Error error(static_cast<ErrorCode>(code), "{}{}", passed_on ? "" : prefix, text);
  fail_on_loop(error.blame(failed));
}

void CommunicatorState::on_peer_lost_on_loop(int peer, const Error& error) {
  const int lost = rank_of_peer(peer);
  if (lost < 0 || broken_ || !engaged_) return;
  // It may have done its part of what is pending.
  while (poll_on_loop()) {
  }
  const auto& left = left_[static_cast<std::size_t>(lost)];
  const bool was_orderly = left && (pending_.empty() || pending_.begin()->first < *left) &&
                           !point_to_point_.waits_for(lost);
  if (!was_orderly) fail_on_loop(error);
}

void CommunicatorState::on_unusable_on_loop(const Error& error, bool alone) {
  if (alone) reported_.store(true);
  fail_on_loop(error);
}

void CommunicatorState::goodbye_on_loop(int from, const MessageHeader& header, ConstBytes payload) {
  const auto origin = WireReader(payload).get<std::int32_t>();
  if (origin < 0 || origin >= size || left_[static_cast<std::size_t>(origin)]) return;
  left_[static_cast<std::size_t>(origin)] = header.sequence;
  flood_on_loop(header, {payload.begin(), payload.end()}, from);
  someone_left_ = true;
  if (point_to_point_.waits_for(origin)) give_up_on_left_on_loop(origin);
  expect_nobody_left_on_loop();
}

// What a rank had called before it left can still end: what is pending of that comes first.
void CommunicatorState::expect_nobody_left_on_loop() const {
  if (!someone_left_ || pending_.empty()) return;
  const std::uint64_t first = pending_.begin()->first;
  for (int r = 0; r < size; ++r) {
    const auto& left = left_[static_cast<std::size_t>(r)];
    if (!left || *left > first) continue;
    Error gone(ErrorCode::kPeerLost, "{} has left the group after {} operations", rank_text(r),
               *left);
    throw gone.blame(ranks[static_cast<std::size_t>(r)]);
  }
}

// Messages that a rank sent before it left may be on their way still.
void CommunicatorState::give_up_on_left_on_loop(int gone) {
  context->engine.add_timer_on_loop(
      deadline_after(context->config.heartbeat), [this, alive = alive_, gone] {
        if (!*alive || broken_ || !point_to_point_.waits_for(gone)) return;
        guarded_on_loop([&] {
          Error error(ErrorCode::kPeerLost, "{} has left the group and takes no part in messages",
                      rank_text(gone));
          throw error.blame(ranks[static_cast<std::size_t>(gone)]);
        });
      });
}

void CommunicatorState::abort(std::string_view reason) {
  if (broken_ || context->process != ::getpid()) return;
  Error aborted(ErrorCode::kAborted, "group '{}' was aborted on rank {}: {}", options.name,
                context->rank, reason);
  aborted.blame(context->rank);
  context->engine.run_on_loop([&] { fail_on_loop(aborted); });
}

void CommunicatorState::shutdown() {
  if (context->process != ::getpid()) return;
  const std::lock_guard lock(close_mutex_);
  if (closed_) return;
  closing_.store(true);
  context->engine.wait_until([this] { return pending_count_.load() == 0; }, Deadline::max());
  if (broken_) {
    // The addresses may be on their way; then the others need not wait for their deadlines.
    context->engine.wait_until([this] { return reported_.load(); }, deadline_after(kLastWords));
  }
  context->engine.run_on_loop([this] { close_on_loop(); });
  closed_ = true;
}

void CommunicatorState::close_on_loop() {
  if (!broken_) {
    WireBuffer payload;
    payload.put(static_cast<std::int32_t>(rank));
    flood_on_loop({.kind = MessageKind::kGoodbye, .sequence = next_sequence.load()},
                  payload.bytes(), -1);
    const std::lock_guard lock(error_mutex_);
    error_ = Error(ErrorCode::kAborted, "group '{}' was shut down on this rank", options.name);
  }
  broken_.store(true);
  if (polling_) context->engine.remove_poller_on_loop(*this);
  polling_ = false;
  if (watch_at_) context->engine.cancel_timer_on_loop(watch_timer_);
  context->mesh.remove_sink_on_loop(id_);
  *alive_ = false;
}

// ---- disagreement ----

Deadline CommunicatorState::announce_time(const Operation& operation) const {
  return operation.submitted + std::min(kAnnounceAfter, operation.timeout / 2);
}

// Tells every member what this rank has called.
void CommunicatorState::announce_on_loop(Pending& pending) {
  if (pending.announced) return;
  pending.announced = true;
  WireBuffer payload;
  payload.put(static_cast<std::int32_t>(rank));
  payload.put_bytes(encode(pending.operation->description));
  flood_on_loop({.kind = MessageKind::kHeartbeat, .sequence = pending.operation->sequence},
                payload.bytes(), -1);
}

void CommunicatorState::announcement_on_loop(int from, const MessageHeader& header,
                                             ConstBytes payload) {
  WireReader r(payload);
  const auto origin = r.get<std::int32_t>();
  const Description theirs = decode_description(r.get_bytes(Description::kEncodedBytes));
  if (origin < 0 || origin >= size || origin == rank) return;
  note_called_on_loop(origin, header.sequence);
  auto& known = arrivals_[static_cast<std::size_t>(origin)];
  const bool is_news = !known || known->sequence < header.sequence;
  if (is_news) {
    known = Arrival{header.sequence, theirs};
    flood_on_loop(header, {payload.begin(), payload.end()}, from);
  }
  compare_on_loop(origin, header.sequence, theirs);
  const auto mine = pending_.find(header.sequence);
  if (is_news && mine != pending_.end()) announce_on_loop(mine->second);
}

// A message of an operation says what its sender called.
void CommunicatorState::check_agreement(int from, const MessageHeader& header) const {
  const auto mine = history_.find(header.sequence);
  if (mine == history_.end() || mine->second.fingerprint() == header.fingerprint) return;
  compare_on_loop(from, header.sequence, description_of(header));
}

void CommunicatorState::compare_on_loop(int other, std::uint64_t sequence,
                                        const Description& theirs) const {
  const auto mine = history_.find(sequence);
  if (mine == history_.end() || mine->second == theirs) return;
  Error error(ErrorCode::kMismatch,
              "ranks disagree about operation #{} of group '{}': {} called {}, {} called {}",
              sequence, options.name, rank_text(rank), mine->second.text(), rank_text(other),
              theirs.text());
  throw error.blame(ranks[static_cast<std::size_t>(other)]);
}

Error CommunicatorState::local_mismatch(const LocalGroup::Mismatch& mismatch) const {
  Error error(ErrorCode::kMismatch,
              "ranks disagree about operation #{} of group '{}': {} called {}, {} called {}",
              mismatch.sequence, options.name, rank_text(rank), mismatch.mine.text(),
              rank_text(mismatch.index), mismatch.theirs.text());
  return error.blame(ranks[static_cast<std::size_t>(mismatch.index)]);
}

// ---- deadlines ----

void CommunicatorState::arm_watch_on_loop(Deadline at) {
  if (watch_at_ && *watch_at_ <= at) return;
  if (watch_at_) context->engine.cancel_timer_on_loop(watch_timer_);
  watch_at_ = at;
  watch_timer_ = context->engine.add_timer_on_loop(at, [this, alive = alive_] {
    if (*alive) guarded_on_loop([this] { watch_on_loop(); });
  });
}

void CommunicatorState::watch_on_loop() {
  watch_at_.reset();
  const auto now = Clock::now();
  Deadline next = Deadline::max();
  for (auto& [sequence, pending] : pending_) {
    if (pending.operation->deadline <= now) throw timeout_error(pending);
    if (announce_time(*pending.operation) <= now) announce_on_loop(pending);
    next = std::min(next, pending.operation->deadline);
    if (!pending.announced) next = std::min(next, announce_time(*pending.operation));
  }
  for (const auto& operation : point_to_point_.pending()) {
    if (operation->deadline <= now) {
      Error late(ErrorCode::kTimeout, "{} Timed out after {} ms: {} has not called the other side",
                 operation->text(), operation->timeout.count(), rank_text(operation->other->rank));
      throw late.blame(ranks[static_cast<std::size_t>(operation->other->rank)]);
    }
    next = std::min(next, operation->deadline);
  }
  if (next != Deadline::max()) arm_watch_on_loop(next);
}

Error CommunicatorState::timeout_error(const Pending& pending) const {
  const std::string what =
      fmt::format("{} of group '{}' on rank {} Timed out after {} ms", pending.operation->text(),
                  options.name, context->rank, pending.operation->timeout.count());
  if (!context->mesh.ready_on_loop()) {
    const auto absent = context->mesh.missing();
    Error error(ErrorCode::kTimeout, "{}: {} never started (no address in the store)", what,
                list_of(absent));
    return error.blame(absent.empty() ? -1 : absent.front());
  }
  std::vector<int> absent;
  if (pending.local_begun) {
    for (const int r : local_->missing()) absent.push_back(ranks[static_cast<std::size_t>(r)]);
  } else {
    for (int r = 0; r < size; ++r) {
      if (r != rank && called_[static_cast<std::size_t>(r)] <= pending.operation->sequence) {
        absent.push_back(ranks[static_cast<std::size_t>(r)]);
      }
    }
  }
  if (absent.empty()) {
    return Error(ErrorCode::kTimeout,
                 "{}: every rank has called it; the network or a rank is too slow", what);
  }
  // Of several, the one that is furthest behind keeps the others waiting.
  const int last = *std::ranges::min_element(absent, {}, [&](int global) {
    return called_[static_cast<std::size_t>(rank_of_peer(global))];
  });
  Error error(ErrorCode::kTimeout, "{}: {} never called it", what, list_of(absent));
  return error.blame(last);
}

}  // namespace treadle
