#include "collectives/executor.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kMinLanesInFlight = 2;  // one receives while another folds
constexpr std::size_t kMaxLanesInFlight = 3;
// More would leave the caches before it is folded.
constexpr std::size_t kScratchInFlight = 4 << 20;
constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
constexpr std::size_t kNone = ~std::size_t{0};

std::size_t cut(std::size_t elems, int chunk, int chunks) {
  return elems * static_cast<std::size_t>(chunk) / static_cast<std::size_t>(chunks);
}

// How many parts of at most `part` make `whole`.
std::size_t parts(std::size_t whole, std::size_t part) { return (whole + part - 1) / part; }

std::size_t longest_chunk(std::size_t elems, int chunks) {
  return parts(elems, static_cast<std::size_t>(chunks));
}

std::size_t round_up(std::size_t bytes) {
  constexpr auto kAlignment = static_cast<std::size_t>(ScratchBlock::kAlignment);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

PlanRun::PlanRun(Flow& flow, ScratchPool& pool, Plan plan, const PlanData& data,
                 std::uint64_t sequence, const Description& description, int priority,
                 std::function<void()> moved)
    : flow_(flow),
      plan_(std::move(plan)),
      data_(data),
      header_{.kind = MessageKind::kData,
              .sequence = sequence,
              .fingerprint = description.fingerprint(),
              .description = header_words(description)},
      priority_(priority),
      moved_(std::move(moved)),
      elem_bytes_(size_of(data.dtype)),
      longest_chunk_(std::max(longest_chunk(data_.in.size() / elem_bytes_, plan_.in_chunks),
                              longest_chunk(data_.out.size() / elem_bytes_, plan_.out_chunks))),
      lane_elems_(plan_.lane_bytes / elem_bytes_),
      lane_count_(
          static_cast<std::uint32_t>(std::max<std::size_t>(1, parts(longest_chunk_, lane_elems_)))),
      pool_(pool) {
  std::size_t steps = 0;
  for (const Round& round : plan_.rounds) {
    first_step_.push_back(steps);
    steps += round.steps.size();
  }
  first_step_.push_back(steps);
  const std::size_t slot_bytes = slot_bytes_of_lane();
  const std::size_t lane_bytes = slot_bytes * static_cast<std::size_t>(plan_.scratch_slots);
  const std::size_t lanes = std::min<std::size_t>(
      lane_count_, std::clamp(kScratchInFlight / std::max<std::size_t>(lane_bytes, 1),
                              kMinLanesInFlight, kMaxLanesInFlight));
  if (lane_bytes > 0) {
    scratch_ = pool_.take(lanes * lane_bytes);
    for (std::size_t i = 0; i < lanes; ++i)
      free_scratch_.push_back(scratch_.bytes().subspan(i * lane_bytes, lane_bytes));
  } else {
    free_scratch_.resize(lanes);
  }
}

PlanRun::~PlanRun() {
  *alive_ = false;
  pool_.give_back(std::move(scratch_));
}

void PlanRun::start() {
  pump();
  if (done()) moved_();
}

std::string PlanRun::progress_text() const {
  std::string text = fmt::format("{} of {} parts done", lanes_done_, lane_count_);
  if (lanes_.empty() || lanes_.front()->round >= plan_.rounds.size()) return text;
  const Lane& lane = *lanes_.front();
  const auto& steps = plan_.rounds[lane.round].steps;
  std::vector<int> senders;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::size_t flat = first_step_[lane.round] + i;
    if (steps[i].kind == StepKind::kRecv && lane.got_bytes[flat] != lane.want_bytes[flat])
      senders.push_back(steps[i].peer);
  }
  text += fmt::format("; round {} of {}", lane.round + 1, plan_.rounds.size());
  if (!senders.empty()) text += fmt::format(" waits for data of {}", fmt::join(senders, ", "));
  if (lane.sends_left > 0) text += fmt::format(", has {} to send", lane.sends_left);
  return text;
}

// Starts lanes while there is room. Lanes that end inside are noticed here, so nothing recurses.
void PlanRun::pump() {
  if (pumping_) return;
  pumping_ = true;
  while (lanes_started_ < lane_count_ && !free_scratch_.empty()) {
    start_lane();
    std::erase_if(lanes_, [this](const auto& lane) {
      if (lane->done) free_scratch_.push_back(lane->scratch);
      return lane->done;
    });
  }
  pumping_ = false;
}

void PlanRun::start_lane() {
  auto lane = std::make_unique<Lane>();
  lane->index = lanes_started_++;
  lane->got_bytes.assign(first_step_.back(), 0);
  lane->want_bytes.assign(first_step_.back(), kUnknown);
  lane->scratch_bytes.assign(static_cast<std::size_t>(plan_.scratch_slots), 0);
  lane->scratch = free_scratch_.back();
  free_scratch_.pop_back();
  lanes_.push_back(std::move(lane));
  enter_round(*lanes_.back());
  advance(*lanes_.back());
}

void PlanRun::enter_round(Lane& lane) {
  if (lane.round > 0) moved_();
  if (lane.round >= plan_.rounds.size()) return;
  allow_rounds(lane);
  const auto& steps = plan_.rounds[lane.round].steps;
  lane.sends_left = static_cast<int>(
      std::ranges::count_if(steps, [](const Step& s) { return s.kind == StepKind::kSend; }));
  for (const Step& step : steps) {
    if (step.kind == StepKind::kSend) send(lane, step);
  }
}

void PlanRun::send(Lane& lane, const Step& step) {
  MessageHeader header = header_;
  header.lane = lane.index;
  header.step = static_cast<std::uint32_t>(lane.round);
  flow_.send(step.peer, header, readable(lane, step.from), priority_,
             [this, alive = alive_, index = lane.index] {
               if (!*alive) return;
               Lane* sender = lane_of(index);
               TREADLE_CHECK(sender != nullptr, "lane {} ended before its sends", index);
               --sender->sends_left;
               try {
                 advance(*sender);
                 pump();
               } catch (const Error& error) {
                 failure_ = error;
                 moved_();
               }
             });
}

// Tells peers which rounds of this lane they may send now.
void PlanRun::allow_rounds(Lane& lane) {
  const auto end =
      std::min(plan_.rounds.size(), lane.round + static_cast<std::size_t>(plan_.early_rounds) + 1);
  std::vector<std::pair<int, std::uint32_t>> grants;  // peer, last round
  for (std::size_t r = lane.granted_rounds; r < end; ++r) {
    for (const Step& step : plan_.rounds[r].steps) {
      if (step.kind != StepKind::kRecv) continue;
      const auto round = static_cast<std::uint32_t>(r);
      flow_.matched({step.peer, header_.sequence, lane.index, round, 0});
      // For scratch this is an upper bound; granting a small message too is harmless.
      if (flow_.is_small(span_of(step.to, lane.index).bytes)) continue;
      const auto known =
          std::ranges::find(grants, step.peer, &std::pair<int, std::uint32_t>::first);
      if (known == grants.end()) {
        grants.emplace_back(step.peer, round);
      } else {
        known->second = round;
      }
    }
  }
  lane.granted_rounds = std::max(lane.granted_rounds, end);
  for (const auto& [peer, round] : grants)
    flow_.grant_rounds(peer, header_.sequence, lane.index, round);
}

void PlanRun::announced(const MessageName& name) {
  const Lane* lane = lane_of(name.lane);
  if (lane != nullptr && name.step < lane->granted_rounds) flow_.matched(name);
}

bool PlanRun::round_complete(const Lane& lane) const {
  if (lane.sends_left > 0) return false;
  const auto& steps = plan_.rounds[lane.round].steps;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::size_t flat = first_step_[lane.round] + i;
    if (steps[i].kind == StepKind::kRecv && lane.got_bytes[flat] != lane.want_bytes[flat])
      return false;
  }
  return true;
}

void PlanRun::advance(Lane& lane) {
  while (lane.round < plan_.rounds.size() && round_complete(lane)) {
    finish_round(lane);
    ++lane.round;
    enter_round(lane);
  }
  if (lane.round == plan_.rounds.size() && !lane.done) {
    lane.done = true;
    ++lanes_done_;
    flow_.forget_lane(header_.sequence, lane.index);
    if (!pumping_) {
      free_scratch_.push_back(lane.scratch);
      std::erase_if(lanes_, [&](const auto& other) { return other.get() == &lane; });
    }
  }
}

void PlanRun::finish_round(Lane& lane) {
  const auto& steps = plan_.rounds[lane.round].steps;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    TREADLE_CHECK(step.kind != StepKind::kLocal, "a local step reached the message executor");
    if (step.kind == StepKind::kReduce) reduce(lane, step);
    if (step.kind == StepKind::kCopy) {
      const ConstBytes from = readable(lane, step.from);
      const Bytes to = bytes_of(lane, step.to);
      if (from.data() != to.data() && !to.empty()) {
        std::memmove(to.data(), from.data(), std::min(from.size(), to.size()));
      }
    }
  }
}

void PlanRun::reduce(Lane& lane, const Step& step) {
  // All operands are the same part of the same chunk.
  const std::size_t bytes = readable(lane, step.operands.front()).size();
  std::vector<const std::byte*> inputs;
  for (const Place& place : step.operands) {
    const ConstBytes operand = readable(lane, place);
    if (operand.size() != bytes) {
      throw Error(ErrorCode::kMismatch, "a part of {} bytes cannot be folded with one of {}",
                  operand.size(), bytes);
    }
    inputs.push_back(operand.data());
  }
  Bytes to = bytes_of(lane, step.to);
  if (step.to.kind == Place::Kind::kScratch) {
    lane.scratch_bytes[static_cast<std::size_t>(step.to.index)] = bytes;
    to = to.first(bytes);
  }
  TREADLE_CHECK(to.size() == bytes, "a fold of {} bytes into {}", bytes, to.size());
  if (bytes > 0) {
    data_.fold(to.data(), inputs.data(), static_cast<int>(inputs.size()), bytes / elem_bytes_,
               data_.scale);
  }
}

// ---- where things lie ----

std::size_t PlanRun::slot_bytes_of_lane() const {
  return round_up(std::min(longest_chunk_, lane_elems_) * elem_bytes_);
}

PlanRun::Span PlanRun::span_of(const Place& place, std::uint32_t lane) const {
  const std::size_t from = lane * lane_elems_;
  const auto clip = [&](std::size_t chunk_elems) {
    return chunk_elems <= from ? 0 : std::min(lane_elems_, chunk_elems - from);
  };
  if (place.kind == Place::Kind::kScratch) {
    return {static_cast<std::size_t>(place.index) * slot_bytes_of_lane(),
            clip(longest_chunk_) * elem_bytes_};
  }
  const bool is_in = place.kind == Place::Kind::kIn;
  const std::size_t elems = (is_in ? data_.in.size() : data_.out.size()) / elem_bytes_;
  const int chunks = is_in ? plan_.in_chunks : plan_.out_chunks;
  const std::size_t begin = cut(elems, place.index, chunks);
  const std::size_t end = cut(elems, place.index + 1, chunks);
  return {(begin + from) * elem_bytes_, clip(end - begin) * elem_bytes_};
}

Bytes PlanRun::bytes_of(const Lane& lane, const Place& place) const {
  TREADLE_CHECK(place.kind != Place::Kind::kIn, "a plan writes to its input");
  const Span span = span_of(place, lane.index);
  if (span.bytes == 0) return {};
  return (place.kind == Place::Kind::kScratch ? lane.scratch : data_.out)
      .subspan(span.offset_bytes, span.bytes);
}

ConstBytes PlanRun::readable(const Lane& lane, const Place& place) const {
  if (place.kind == Place::Kind::kOut) return bytes_of(lane, place);
  if (place.kind == Place::Kind::kScratch) {
    const std::size_t bytes = lane.scratch_bytes[static_cast<std::size_t>(place.index)];
    return bytes == 0 ? ConstBytes{} : bytes_of(lane, place).first(bytes);
  }
  const Span span = span_of(place, lane.index);
  return span.bytes == 0 ? ConstBytes{} : data_.in.subspan(span.offset_bytes, span.bytes);
}

// ---- arrivals ----

PlanRun::Lane* PlanRun::lane_of(std::uint32_t index) {
  const auto found = std::ranges::find(lanes_, index, [](const auto& lane) { return lane->index; });
  return found == lanes_.end() ? nullptr : found->get();
}

std::size_t PlanRun::find_recv(int peer, std::uint32_t round) const {
  const auto& steps = plan_.rounds[round].steps;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind == StepKind::kRecv && steps[i].peer == peer) return i;
  }
  return kNone;
}

std::optional<Bytes> PlanRun::place(int peer, const MessageHeader& header) {
  if (header.lane >= lane_count_ || header.step >= plan_.rounds.size() ||
      find_recv(peer, header.step) == kNone) {
    throw Error(ErrorCode::kMismatch,
                "rank {} sent part {} of round {}, which this rank does not expect", peer,
                header.lane, header.step);
  }
  Lane* lane = lane_of(header.lane);
  if (lane == nullptr || header.step >= lane->granted_rounds) {
    if (header.lane < lanes_started_ && lane == nullptr) {
      throw Error(ErrorCode::kCorrupt, "rank {} sent part {} again", peer, header.lane);
    }
    return std::nullopt;
  }
  const std::size_t step = find_recv(peer, header.step);
  const std::size_t flat = first_step_[header.step] + step;
  const Bytes to = bytes_of(*lane, plan_.rounds[header.step].steps[step].to);
  const bool exact = plan_.rounds[header.step].steps[step].to.kind == Place::Kind::kOut;
  if (exact ? header.total_bytes != to.size() : header.total_bytes > to.size()) {
    throw Error(ErrorCode::kMismatch, "rank {} sent {} bytes of a part that has {} here", peer,
                header.total_bytes, to.size());
  }
  if (lane->want_bytes[flat] == kUnknown) {
    lane->want_bytes[flat] = header.total_bytes;
    if (!exact) {
      const auto slot = static_cast<std::size_t>(plan_.rounds[header.step].steps[step].to.index);
      lane->scratch_bytes[slot] = header.total_bytes;
    }
  }
  if (lane->want_bytes[flat] != header.total_bytes ||
      lane->got_bytes[flat] + header.size_bytes > header.total_bytes ||
      (header.total_bytes == 0 && lane->round > header.step)) {
    throw Error(ErrorCode::kCorrupt, "rank {} sent more of part {} than there is", peer,
                header.lane);
  }
  return to.empty() ? to : to.subspan(header.offset_bytes, header.size_bytes);
}

void PlanRun::arrived(int peer, const MessageHeader& header) {
  Lane* lane = lane_of(header.lane);
  if (lane == nullptr) return;
  const std::size_t step = header.step < plan_.rounds.size() ? find_recv(peer, header.step) : kNone;
  TREADLE_CHECK(step != kNone, "rank {}'s part of round {} has no place", peer, header.step);
  const std::size_t flat = first_step_[header.step] + step;
  lane->got_bytes[flat] += header.size_bytes;
  if (lane->got_bytes[flat] == header.total_bytes) flow_.consumed(peer, header);
  if (header.step == lane->round) {
    advance(*lane);
    pump();
  }
}

}  // namespace treadle
