// What arrives for a communicator: readiness, links, and messages that are placed or kept until
// they are welcome.
#include <algorithm>

#include "collectives/communicator_state.h"
#include "core/error.h"

namespace treadle {

void CommunicatorState::on_ready_on_loop() {
  if (broken_) return report_failure_on_loop();
  guarded_on_loop([this] {
    if (pending_.empty() && point_to_point_.pending().empty()) return;
    engage_on_loop();
    for (auto& [sequence, pending] : pending_) begin_on_loop(pending);
  });
}

void CommunicatorState::on_linked_on_loop(int peer) {
  if (rank_of_peer(peer) >= 0) guarded_on_loop([this] { build_local_on_loop(); });
}

std::optional<Bytes> CommunicatorState::on_header_on_loop(int peer, const MessageHeader& header) {
  const int from = rank_of_peer(peer);
  if (from < 0) {
    throw Error(ErrorCode::kCorrupt, "rank {} is not a member of group '{}'", peer, options.name);
  }
  if (broken_) return std::nullopt;
  std::optional<Bytes> place;
  guarded_on_loop([&] {
    flow_.on_any_header(from, header);
    if (header.kind == MessageKind::kData) {
      place = data_header_on_loop(from, header);
    } else if (header.kind == MessageKind::kPointToPoint) {
      place = point_to_point_.on_header(from, header);
    } else {
      auto& landing = control_landing_[static_cast<std::size_t>(from)];
      landing.resize(header.size_bytes);
      place = Bytes(landing);
    }
  });
  return place;
}

std::optional<Bytes> CommunicatorState::data_header_on_loop(int from, const MessageHeader& header) {
  const auto index = static_cast<std::size_t>(from);
  landing_early_[index] = false;
  note_called_on_loop(from, header.sequence);
  check_agreement(from, header);
  const auto found = pending_.find(header.sequence);
  if (found != pending_.end() && found->second.run) {
    if (const auto place = found->second.run->place(from, header)) return place;
  }
  if (header.sequence < next_sequence.load() && found == pending_.end() &&
      history_.contains(header.sequence)) {
    throw Error(ErrorCode::kCorrupt, "rank {} sent part {} of operation #{} again", from,
                header.lane, header.sequence);
  }
  flow_.check_unmatched(from, unmatched_bytes_[index] + header.size_bytes, header);
  landing_early_[index] = true;
  landing_[index].resize(header.size_bytes);
  return Bytes(landing_[index]);
}

void CommunicatorState::on_payload_on_loop(int peer, const MessageHeader& header,
                                           std::shared_ptr<SharedSegment> segment) {
  const int from = rank_of_peer(peer);
  if (broken_ && header.kind != MessageKind::kFailure) return;
  guarded_on_loop([&] {
    switch (header.kind) {
      case MessageKind::kData:
        return data_payload_on_loop(from, header);
      case MessageKind::kPointToPoint:
        return point_to_point_.on_payload(from, header);
      case MessageKind::kSegment:
        if (from == 0 && !segment_) segment_ = std::move(segment);
        return build_local_on_loop();
      default: {
        const auto payload = std::move(control_landing_[static_cast<std::size_t>(from)]);
        return control_on_loop(from, header, payload);
      }
    }
  });
}

void CommunicatorState::data_payload_on_loop(int from, const MessageHeader& header) {
  const auto index = static_cast<std::size_t>(from);
  if (landing_early_[index]) {
    landing_early_[index] = false;
    unmatched_bytes_[index] += header.size_bytes;
    early_[header.sequence].push_back({from, header, std::move(landing_[index])});
    const auto found = pending_.find(header.sequence);
    if (found != pending_.end() && found->second.run)
      offer_early_on_loop(header.sequence, *found->second.run);
    return;
  }
  const auto found = pending_.find(header.sequence);
  if (found == pending_.end() || !found->second.run) return;
  found->second.run->arrived(from, header);
}

}  // namespace treadle
