#include "transport/mesh_links.h"

#include <algorithm>

#include "core/wire.h"

namespace treadle {
namespace {

constexpr milliseconds kRedialAfter{50};
constexpr milliseconds kGoodbyePatience{250};
constexpr std::size_t kMaxStrangers = 1024;

std::size_t index_of(Lane lane) { return static_cast<std::size_t>(lane); }
std::string_view name_of(Lane lane) { return lane == Lane::kControl ? "control" : "data"; }

// A payload that must live until it is sent.
void post_owned(Connection& connection, MessageHeader header, std::vector<std::byte> payload) {
  auto owned = std::make_shared<std::vector<std::byte>>(std::move(payload));
  connection.post_on_loop({.header = header,
                           .payload = *owned,
                           .priority = kUrgent,
                           .done = [owned] {},
                           .segment = nullptr});
}

}  // namespace

// ---- hello ----
//
//   u64 run id      0 if the caller does not know it yet
//   u64 nonce       of the rank that is called: who knows it has read the roster
//   u32 from, u32 to, u8 lane

std::vector<std::byte> Mesh::hello_for(int rank, Lane lane) const {
  WireBuffer hello;
  hello.put(roster_->run_id);
  hello.put(roster_->peers[static_cast<std::size_t>(rank)].nonce);
  hello.put(static_cast<std::uint32_t>(rank_));
  hello.put(static_cast<std::uint32_t>(rank));
  hello.put(lane);
  return hello.take();
}

std::string IncomingLink::refusal_of(ConstBytes hello) {
  WireReader r(hello);
  const auto run_id = r.get<std::uint64_t>();
  const auto nonce = r.get<std::uint64_t>();
  const auto from = r.get<std::uint32_t>();
  const auto to = r.get<std::uint32_t>();
  const auto lane_number = r.get<std::uint8_t>();
  if (nonce != mesh_.mine_.nonce || to != static_cast<std::uint32_t>(mesh_.rank_)) {
    return fmt::format("this is rank {} of another run; the caller looked for rank {}", mesh_.rank_,
                       to);
  }
  if (from >= static_cast<std::uint32_t>(mesh_.ranks_) || static_cast<int>(from) == mesh_.rank_ ||
      lane_number >= kLanes) {
    return fmt::format("rank {} of {} and lane {} make no sense", from, mesh_.ranks_, lane_number);
  }
  if (mesh_.roster_ && run_id != mesh_.roster_->run_id) return "another run id";
  rank = static_cast<int>(from);
  lane = static_cast<Lane>(lane_number);
  return {};
}

void IncomingLink::on_hello_on_loop() {
  std::string refusal = refusal_of(landing_);
  if (rank >= 0 && mesh_.peer_at(rank).lost) {
    refusal = fmt::format("rank {} is considered lost: {}", rank, mesh_.peer_at(rank).lost->what());
    rank = -1;
  }
  WireBuffer reply;
  reply.put_string(refusal);
  const MessageHeader header{.kind = MessageKind::kHelloReply, .total_bytes = reply.bytes().size()};
  post_owned(*connection, header, reply.take());
  if (refusal.empty()) {
    mesh_.in_ready_on_loop(rank, lane, this);
  } else {
    mesh_.log_(LogLevel::kWarn, "refused a connection from {}: {}", connection->peer_text(),
               refusal);
  }
}

// ---- what arrives on a lane a peer dialled ----

std::optional<Bytes> IncomingLink::on_header_on_loop(const MessageHeader& header) {
  if (rank < 0) {
    if (header.kind != MessageKind::kHello || header.size_bytes != header.total_bytes ||
        header.total_bytes > kMaxHelloBytes) {
      throw Error(ErrorCode::kCorrupt, "a connection from {} does not begin with a hello",
                  connection->peer_text());
    }
  } else {
    // Sinks keep one landing buffer per lane, so a kind must stay on its lane.
    const bool is_data =
        header.kind == MessageKind::kData || header.kind == MessageKind::kPointToPoint;
    if (is_data != (lane == Lane::kData)) {
      throw Error(ErrorCode::kCorrupt, "rank {} sent message kind {} on its {} lane", rank,
                  static_cast<int>(header.kind), name_of(lane));
    }
    Mesh::Peer& peer = mesh_.peer_at(rank);
    if (is_data) {
      peer.data_heard = true;
    } else {
      peer.last_heard = Clock::now();
    }
    if (peer.lost) return std::nullopt;
    if (header.communicator != 0) {
      if (Mesh::Sink* sink = mesh_.sink_of(header.communicator)) {
        to_sink_ = true;
        return sink->on_header_on_loop(rank, header);
      }
    }
  }
  to_sink_ = false;
  landing_.resize(header.size_bytes);
  return Bytes(landing_);
}

void IncomingLink::on_payload_on_loop(const MessageHeader& header,
                                      std::shared_ptr<SharedSegment> segment) {
  if (rank < 0) return on_hello_on_loop();
  if (mesh_.peer_at(rank).lost) return;
  if (header.communicator == 0) {
    if (header.kind == MessageKind::kGoodbye) mesh_.peer_at(rank).departed = true;
    return;
  }
  if (to_sink_) {
    // A sink that has gone meanwhile has cancelled its payloads.
    if (Mesh::Sink* sink = mesh_.sink_of(header.communicator)) {
      sink->on_payload_on_loop(rank, header, std::move(segment));
    }
    return;
  }
  mesh_.stash_on_loop({rank, header, std::move(landing_), std::move(segment)});
}

void IncomingLink::on_closed_on_loop(const Error& error) { mesh_.in_closed_on_loop(this, error); }

// ---- a lane this rank dialled ----

std::optional<Bytes> OutgoingLink::on_header_on_loop(const MessageHeader& header) {
  if (header.kind != MessageKind::kHelloReply || ready || header.size_bytes != header.total_bytes ||
      header.total_bytes > kMaxHelloBytes) {
    throw Error(ErrorCode::kCorrupt, "rank {} answered a hello with message kind {}", rank_,
                static_cast<int>(header.kind));
  }
  reply_.resize(header.size_bytes);
  return Bytes(reply_);
}

void OutgoingLink::on_payload_on_loop(const MessageHeader&, std::shared_ptr<SharedSegment>) {
  const std::string refusal = WireReader(reply_).get_string(kMaxHelloBytes);
  if (!refusal.empty()) {
    throw Error(ErrorCode::kPeerLost, "rank {} at {} refused the connection: {}", rank_,
                connection->peer_text(), refusal);
  }
  // A link that has been given up may still get its answer.
  if (mesh_.peer_at(rank_).out[index_of(lane_)].link.get() != this) return;
  ready = true;
  mesh_.out_ready_on_loop(rank_, lane_);
}

void OutgoingLink::on_closed_on_loop(const Error& error) {
  mesh_.out_closed_on_loop(rank_, lane_, error);
}

// ---- the mesh's side ----

ConnectionEvents& Mesh::accept_on_loop(std::unique_ptr<Connection> connection) {
  if (strangers_.size() >= kMaxStrangers) {
    bury_on_loop(std::move(strangers_.front()));
    strangers_.erase(strangers_.begin());
  }
  auto link = std::make_unique<IncomingLink>(*this);
  link->connection = std::move(connection);
  strangers_.push_back(std::move(link));
  return *strangers_.back();
}

// Whoever connects and never says hello.
void Mesh::drop_strangers_on_loop(Deadline now) {
  while (!strangers_.empty() && now - strangers_.front()->accepted > 2 * config_.heartbeat) {
    log_(LogLevel::kInfo, "closed a connection from {}, which said no hello",
         strangers_.front()->connection->peer_text());
    bury_on_loop(std::move(strangers_.front()));
    strangers_.erase(strangers_.begin());
  }
}

void Mesh::in_ready_on_loop(int rank, Lane lane, IncomingLink* link) {
  const auto found =
      std::ranges::find_if(strangers_, [&](const auto& s) { return s.get() == link; });
  TREADLE_CHECK(found != strangers_.end(), "a link said hello twice");
  Peer& peer = peer_at(rank);
  auto& place = peer.in[index_of(lane)];
  if (place) bury_on_loop(std::move(place));  // it dialled again after a broken attempt
  place = std::move(*found);
  strangers_.erase(found);
  peer.last_heard = Clock::now();
  if (roster_) want_on_loop(rank);  // call back, so that both directions are known to work
}

void Mesh::in_closed_on_loop(IncomingLink* link, const Error& error) {
  if (link->rank < 0) {
    log_(LogLevel::kDebug, "a connection ended before its hello: {}", error.what());
    const auto found =
        std::ranges::find_if(strangers_, [&](const auto& s) { return s.get() == link; });
    if (found != strangers_.end()) {
      bury_on_loop(std::move(*found));
      strangers_.erase(found);
    }
    return;
  }
  const int rank = link->rank;
  Peer& peer = peer_at(rank);
  auto& place = peer.in[index_of(link->lane)];
  if (place.get() != link) return;  // already replaced or buried
  bury_on_loop(std::move(place));
  if (!peer.departed) {
    lose_unless_departed_on_loop(rank, error);
  } else if (!peer.in[0] && !peer.in[1]) {
    lose_on_loop(rank, Error(ErrorCode::kPeerLost, "it has shut down"));
  }
}

void Mesh::dial_on_loop(int rank, Lane lane) {
  Peer& peer = peer_at(rank);
  Peer::Out& out = peer.out[index_of(lane)];
  if (!roster_ || out.link || peer.lost || closing_) return;
  if (!out.wanted_since) out.wanted_since = Clock::now();
  const PeerInfo& info = roster_->peers[static_cast<std::size_t>(rank)];
  const auto& name = rows_[peer.row].name;
  const auto address =
      std::ranges::find_if(info.addresses, [&](const auto& a) { return a.first == name; });
  if (address == info.addresses.end()) {
    return lose_on_loop(rank,
                        Error(ErrorCode::kUnsupported, "it offers no transport of this rank's"));
  }
  out.link = std::make_unique<OutgoingLink>(*this, rank, lane);
  const bool same_host = info.host_id == mine_.host_id;
  try {
    out.link->connection =
        transports_[peer.row]->connect_on_loop(address->second, lane, same_host, *out.link);
  } catch (const std::exception& error) {  // such as an address that means nothing here
    out.link.reset();
    return lose_on_loop(rank, Error(ErrorCode::kPeerLost, "{}", error.what()));
  }
  auto hello = hello_for(rank, lane);
  const MessageHeader header{.kind = MessageKind::kHello, .total_bytes = hello.size()};
  post_owned(*out.link->connection, header, std::move(hello));
}

void Mesh::out_ready_on_loop(int rank, Lane lane) {
  Peer::Out& out = peer_at(rank).out[index_of(lane)];
  out.ready_since = Clock::now();
  log_(LogLevel::kInfo, "{} lane to rank {} stands: {}", name_of(lane), rank,
       out.link->connection->peer_text());
  while (!out.waiting.empty() && out.link) {
    Outgoing message = std::move(out.waiting.front());
    out.waiting.pop_front();
    out.link->connection->post_on_loop(std::move(message));
  }
  for (const auto& [name, sink] : std::map(sinks_)) sink->on_linked_on_loop(rank);
}

void Mesh::out_closed_on_loop(int rank, Lane lane, const Error& error) {
  Peer& peer = peer_at(rank);
  Peer::Out& out = peer.out[index_of(lane)];
  if (!out.link || peer.lost) return;
  const bool was_ready = out.link->ready;
  bury_on_loop(std::move(out.link));
  if (!was_ready) return redial_on_loop(rank, lane, error);
  lose_unless_departed_on_loop(rank, error);
}

// Its last words may still be on the lane it dials for control, behind the end of another lane, or
// on their way through other ranks.
void Mesh::lose_unless_departed_on_loop(int rank, const Error& error) {
  engine_.add_timer_on_loop(Clock::now() + kGoodbyePatience, [this, alive = alive_, rank, error] {
    if (*alive && !peer_at(rank).departed) lose_on_loop(rank, error);
  });
}

void Mesh::redial_on_loop(int rank, Lane lane, const Error& reason) {
  Peer::Out& out = peer_at(rank).out[index_of(lane)];
  out.last_reason = reason.what();
  if (Clock::now() - *out.wanted_since > 2 * config_.heartbeat) {
    return lose_on_loop(rank, Error(reason.code(), "it cannot be reached: {}", reason.what()));
  }
  engine_.add_timer_on_loop(Clock::now() + kRedialAfter, [this, alive = alive_, rank, lane] {
    if (*alive) dial_on_loop(rank, lane);
  });
}

void Mesh::want_on_loop(int rank) { dial_on_loop(rank, Lane::kControl); }

bool Mesh::in_touch_on_loop(int rank) const {
  const Peer& peer = peer_at(rank);
  return peer.out[0].link || peer.out[1].link || peer.in[0] || peer.in[1];
}

void Mesh::post_on_loop(int rank, Lane lane, Outgoing message) {
  Peer& peer = peer_at(rank);
  if (peer.lost || closing_) return;
  want_on_loop(rank);
  Peer::Out& out = peer.out[index_of(lane)];
  if (out.link && out.link->ready) return out.link->connection->post_on_loop(std::move(message));
  out.waiting.push_back(std::move(message));
  dial_on_loop(rank, lane);
}

void Mesh::cancel_on_loop(std::uint64_t communicator) {
  for (const auto& peer : peers_) {
    // Control messages own their payload, and a failure must still go out.
    auto& out = peer->out[index_of(Lane::kData)];
    std::erase_if(out.waiting,
                  [&](const Outgoing& m) { return m.header.communicator == communicator; });
    if (out.link && out.link->connection) out.link->connection->cancel_on_loop(communicator);
    for (auto& in : peer->in) {
      if (in) in->connection->cancel_on_loop(communicator);
    }
  }
}

bool Mesh::flushed_on_loop() const {
  return std::ranges::all_of(peers_, [](const auto& peer) {
    return peer->lost || std::ranges::all_of(peer->out, [](const auto& out) {
             return out.waiting.empty() && (!out.link || out.link->connection->flushed_on_loop());
           });
  });
}

std::shared_ptr<Doorbell> Mesh::doorbell_on_loop(int rank) const {
  const auto& out = peer_at(rank).out[0];
  return out.link && out.link->ready ? out.link->connection->peer_doorbell() : nullptr;
}

std::string Mesh::link_text_on_loop(int rank) const {
  const auto& out = peer_at(rank).out[0];
  return out.link && out.link->ready ? out.link->connection->peer_text() : "not connected";
}

}  // namespace treadle
