#include "collectives/flow.h"

#include <memory>

#include "core/error.h"

namespace treadle {
namespace {

// More names than this kept for one peer means that it does not follow the protocol.
constexpr std::size_t kMaxNames = 65536;

void bound(std::size_t names, int peer) {
  if (names > kMaxNames) {
    throw Error(ErrorCode::kCorrupt, "rank {} has more than {} grants or announcements pending",
                peer, kMaxNames);
  }
}

}  // namespace

MessageName name_in(int peer, const MessageHeader& header) {
  const bool p2p = header.kind == MessageKind::kPointToPoint || header.lane == kPointToPointLane;
  return {peer, header.sequence, p2p ? kPointToPointLane : header.lane, p2p ? 0 : header.step,
          p2p ? header.tag : 0};
}

Flow::Flow(Mesh& mesh, std::uint64_t communicator, std::vector<int> mesh_ranks,
           std::uint64_t eager_bytes)
    : mesh_(mesh),
      communicator_(communicator),
      mesh_ranks_(std::move(mesh_ranks)),
      eager_bytes_(eager_bytes),
      peers_(mesh_ranks_.size()) {}

void Flow::post(int peer, MessageHeader header, ConstBytes payload, int priority,
                std::function<void()> done) {
  PeerState& state = state_of(peer);
  header.communicator = communicator_;
  header.total_bytes = payload.size();
  header.consumed_bytes = state.consumed;
  state.reported = state.consumed;
  mesh_.post_on_loop(mesh_ranks_[static_cast<std::size_t>(peer)], Lane::kData,
                     {.header = header,
                      .payload = payload,
                      .priority = priority,
                      .done = std::move(done),
                      .segment = nullptr});
}

void Flow::send_control(int peer, MessageHeader header, std::vector<std::byte> payload) {
  PeerState& state = state_of(peer);
  header.communicator = communicator_;
  header.consumed_bytes = state.consumed;
  state.reported = state.consumed;
  if (!payload.empty()) header.total_bytes = payload.size();
  auto owned = std::make_shared<std::vector<std::byte>>(std::move(payload));
  mesh_.post_on_loop(mesh_ranks_[static_cast<std::size_t>(peer)], Lane::kControl,
                     {.header = header,
                      .payload = *owned,
                      .priority = kUrgent,
                      .done = [owned] {},
                      .segment = nullptr});
}

// ---- as sender ----

bool Flow::is_granted(PeerState& peer, const MessageName& name, const MessageHeader& header) {
  if (const auto rounds = peer.granted_rounds.find({name.sequence, name.lane});
      name.lane != kPointToPointLane && rounds != peer.granted_rounds.end() &&
      name.step <= rounds->second && !is_small(header.total_bytes)) {
    return true;
  }
  return peer.granted.erase(name) > 0;
}

bool Flow::may_send(PeerState& peer, const MessageName& name, const MessageHeader& header) {
  if (header.total_bytes == 0 || is_granted(peer, name, header)) return true;
  if (!is_small(header.total_bytes) ||
      peer.eager_sent - peer.eager_matched + header.total_bytes > eager_bytes_) {
    return false;
  }
  peer.eager_sent += header.total_bytes;
  return true;
}

void Flow::send(int peer, MessageHeader header, ConstBytes payload, int priority,
                std::function<void()> done) {
  PeerState& state = state_of(peer);
  header.total_bytes = payload.size();
  const MessageName name = name_in(peer, header);
  if (may_send(state, name, header)) return post(peer, header, payload, priority, std::move(done));
  // A large step of a collective needs no announcement: its receiver grants it when it gets there.
  if (is_small(payload.size()) || name.lane == kPointToPointLane) {
    MessageHeader announce{.kind = MessageKind::kAnnounce,
                           .sequence = name.sequence,
                           .fingerprint = header.fingerprint,
                           .tag = name.tag,
                           .total_bytes = payload.size(),
                           .lane = name.lane,
                           .step = name.step,
                           .description = header.description};
    send_control(peer, announce);
  }
  state.waiting.emplace(name, Waiting{header, payload, priority, std::move(done)});
}

void Flow::release(int peer) {
  PeerState& state = state_of(peer);
  for (auto it = state.waiting.begin(); it != state.waiting.end();) {
    if (!is_granted(state, it->first, it->second.header)) {
      ++it;
      continue;
    }
    Waiting message = std::move(it->second);
    it = state.waiting.erase(it);
    post(peer, message.header, message.payload, message.priority, std::move(message.done));
  }
}

void Flow::on_grant(int peer, const MessageHeader& header) {
  PeerState& state = state_of(peer);
  const MessageName name = name_in(peer, header);
  // `tag` 1 marks the grant of one small step; without it all rounds up to `step` are granted.
  if (name.lane == kPointToPointLane || header.tag == 1) {
    bound(state.granted.size(), peer);
    state.granted.insert(name);
  } else {
    bound(state.granted_rounds.size(), peer);
    auto& step = state.granted_rounds[{name.sequence, name.lane}];
    step = std::max(step, name.step);
  }
  release(peer);
}

void Flow::on_any_header(int peer, const MessageHeader& header) {
  PeerState& state = state_of(peer);
  if (header.consumed_bytes <= state.eager_matched) return;
  if (header.consumed_bytes > state.eager_sent) {
    throw Error(ErrorCode::kCorrupt, "rank {} has matched {} eager bytes of {} sent", peer,
                header.consumed_bytes, state.eager_sent);
  }
  // What waits has been announced or needs a grant of its round, so it leaves by grant only: each
  // side then knows which messages used credit.
  state.eager_matched = header.consumed_bytes;
}

// ---- as receiver ----

void Flow::grant_rounds(int peer, std::uint64_t sequence, std::uint32_t lane, std::uint32_t step) {
  send_control(peer,
               {.kind = MessageKind::kGrant, .sequence = sequence, .lane = lane, .step = step});
}

void Flow::grant_message(int peer, std::int64_t tag, std::uint64_t sequence) {
  send_control(
      peer,
      {.kind = MessageKind::kGrant, .sequence = sequence, .tag = tag, .lane = kPointToPointLane});
}

void Flow::on_announce(int peer, const MessageHeader& header) {
  PeerState& state = state_of(peer);
  bound(state.announced.size(), peer);
  state.announced.insert(name_in(peer, header));
}

void Flow::matched(const MessageName& name) {
  PeerState& state = state_of(name.peer);
  if (state.announced.erase(name) == 0) return;
  state.gave.insert(name);
  if (name.lane == kPointToPointLane) return grant_message(name.peer, name.tag, name.sequence);
  send_control(name.peer, {.kind = MessageKind::kGrant,
                           .sequence = name.sequence,
                           .tag = 1,
                           .lane = name.lane,
                           .step = name.step});
}

void Flow::consumed(int peer, const MessageHeader& header) {
  PeerState& state = state_of(peer);
  if (!state.gave.empty() && state.gave.erase(name_in(peer, header)) > 0) return;
  if (!is_small(header.total_bytes)) return;
  state.consumed += header.total_bytes;
  if (state.consumed - state.reported >= eager_bytes_ / 4) {
    send_control(peer, {.kind = MessageKind::kConsumed});
  }
}

void Flow::check_unmatched(int peer, std::uint64_t unmatched_bytes,
                           const MessageHeader& header) const {
  if (is_small(header.total_bytes) && unmatched_bytes <= eager_bytes_) return;
  throw Error(
      ErrorCode::kCorrupt,
      "rank {} sent {} bytes without a grant; {} bytes of it are unmatched, at most {} may be",
      peer, header.total_bytes, unmatched_bytes, eager_bytes_);
}

void Flow::forget(std::uint64_t sequence) {
  for (PeerState& state : peers_) {
    auto& rounds = state.granted_rounds;
    rounds.erase(rounds.lower_bound({sequence, 0}),
                 rounds.upper_bound({sequence, kPointToPointLane}));
  }
}

void Flow::forget_lane(std::uint64_t sequence, std::uint32_t lane) {
  for (PeerState& state : peers_) state.granted_rounds.erase({sequence, lane});
}

void Flow::clear() {
  for (PeerState& state : peers_) state = PeerState{};
}

}  // namespace treadle
