#include "collectives/point_to_point.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace treadle {
namespace {

// Both sides of a message must agree in size and dtype.
void check_sides(const Operation& recv, int peer, const MessageHeader& header) {
  const Description theirs = description_of(header);
  const Description& mine = recv.description;
  const std::uint64_t place_bytes = mine.elems * size_of(mine.dtype);
  if (theirs.dtype == mine.dtype && header.total_bytes == place_bytes) return;
  throw Error(ErrorCode::kMismatch,
              "rank {} sent {} x {} ({} bytes) and this rank's {} expects {} bytes: both sides "
              "must have the same size and dtype",
              peer, theirs.elems, name_of(theirs.dtype), header.total_bytes, recv.text(),
              place_bytes);
}

}  // namespace

void PointToPoint::add(const std::shared_ptr<Operation>& operation, int peer) {
  running_.push_back({peer, operation});
}

bool PointToPoint::erase(const std::shared_ptr<Operation>& operation) {
  return std::erase_if(running_, [&](const Running& r) { return r.operation == operation; }) > 0;
}

void PointToPoint::finish(const Posted& recv) {
  if (erase(recv.operation)) recv.finished(recv.operation);
}

void PointToPoint::start(const std::shared_ptr<Operation>& operation, const PointToPointCall& call,
                         int priority,
                         std::function<void(const std::shared_ptr<Operation>&)> finished) {
  auto& next = call.is_send ? next_send_ : next_recv_;
  const std::uint64_t number = next[{call.peer, call.tag}]++;
  if (!call.is_send) {
    const MessageName name{call.peer, number, kPointToPointLane, 0, call.tag};
    return match(name, {operation, call.place, 0, std::move(finished)});
  }
  const MessageHeader header{.kind = MessageKind::kPointToPoint,
                             .sequence = number,
                             .fingerprint = operation->description.fingerprint(),
                             .tag = call.tag,
                             .description = header_words(operation->description)};
  flow_.send(call.peer, header, call.data, priority, [this, operation, finished] {
    // It may have failed since it was written.
    if (erase(operation)) finished(operation);
  });
}

void PointToPoint::match(const MessageName& name, Posted posted) {
  const auto stashed = stashed_.find(name);
  if (stashed == stashed_.end() || !stashed->second.complete) {
    posted_.emplace(name, std::move(posted));
    return flow_.matched(name);
  }
  const Stashed message = std::move(stashed->second);
  stashed_.erase(stashed);
  unmatched_bytes_[name.peer] -= message.payload.size();
  check_sides(*posted.operation, name.peer, message.header);
  if (!message.payload.empty()) {
    std::memcpy(posted.place.data(), message.payload.data(), message.payload.size());
  }
  flow_.consumed(name.peer, message.header);
  finish(posted);
}

std::optional<Bytes> PointToPoint::on_header(int peer, const MessageHeader& header) {
  const MessageName name = name_in(peer, header);
  if (const auto posted = posted_.find(name); posted != posted_.end() && !stashed_.contains(name)) {
    Posted& recv = posted->second;
    check_sides(*recv.operation, peer, header);
    if (recv.got_bytes + header.size_bytes > header.total_bytes) {
      throw Error(ErrorCode::kCorrupt, "rank {} sent more of a message than there is", peer);
    }
    if (header.size_bytes == 0) return Bytes{};
    return recv.place.subspan(header.offset_bytes, header.size_bytes);
  }
  if (stashed_.contains(name)) {
    throw Error(ErrorCode::kCorrupt, "rank {} sent message {} of tag {} twice", peer,
                header.sequence, header.tag);
  }
  flow_.check_unmatched(peer, unmatched_bytes_[peer] + header.size_bytes, header);
  unmatched_bytes_[peer] += header.size_bytes;
  auto& stash = stashed_[name];
  stash.header = header;
  stash.payload.resize(header.size_bytes);
  return Bytes(stash.payload);
}

void PointToPoint::on_payload(int peer, const MessageHeader& header) {
  const MessageName name = name_in(peer, header);
  if (const auto stashed = stashed_.find(name); stashed != stashed_.end()) {
    stashed->second.complete = true;
    // Its receive may have been posted while the payload was arriving.
    if (const auto posted = posted_.find(name); posted != posted_.end()) {
      Posted recv = std::move(posted->second);
      posted_.erase(posted);
      match(name, std::move(recv));
    }
    return;
  }
  const auto posted = posted_.find(name);
  if (posted == posted_.end()) return;
  posted->second.got_bytes += header.size_bytes;
  if (posted->second.got_bytes < header.total_bytes) return;
  Posted recv = std::move(posted->second);
  posted_.erase(posted);
  flow_.consumed(peer, header);
  finish(recv);
}

void PointToPoint::on_announce(int peer, const MessageHeader& header) {
  const MessageName name = name_in(peer, header);
  const auto posted = posted_.find(name);
  if (posted == posted_.end()) return;
  check_sides(*posted->second.operation, peer, header);
  flow_.matched(name);
}

std::vector<std::shared_ptr<Operation>> PointToPoint::pending() const {
  std::vector<std::shared_ptr<Operation>> operations;
  for (const Running& r : running_) operations.push_back(r.operation);
  return operations;
}

bool PointToPoint::waits_for(int peer) const {
  return std::ranges::find(running_, peer, &Running::peer) != running_.end();
}

void PointToPoint::clear() {
  posted_.clear();
  stashed_.clear();
  running_.clear();
}

}  // namespace treadle
