#include "transport/mesh.h"

#include <algorithm>
#include <random>
#include <utility>

#include "core/error.h"
#include "transport/mesh_links.h"

namespace treadle {
namespace {

constexpr std::size_t kMaxUnclaimedBytes = 8 << 20;
constexpr milliseconds kGoodbyeLimit{1000};
constexpr milliseconds kLookAgainAfter{5};

std::uint64_t random_nonce() {
  std::random_device source;
  return (static_cast<std::uint64_t>(source()) << 32) | source();
}

}  // namespace

Mesh::Mesh(Engine& engine, const Config& config, Log log, Options options)
    : engine_(engine),
      config_(config),
      log_(log),
      rank_(options.rank),
      ranks_(options.ranks),
      store_(std::move(options.store)) {
  for (auto& row : options.transports) {
    if (!row.same_host_only || config.transport == "auto") rows_.push_back(std::move(row));
  }
  for (int r = 0; r < ranks_; ++r) peers_.push_back(std::make_unique<Peer>());
  engine_.run_on_loop([this] {
    try {
      mine_ = my_info_on_loop();
    } catch (...) {
      close_on_loop();  // listeners end where they began
      throw;
    }
    last_tick_ = Clock::now();
    tick_on_loop();
  });
  bootstrap_ = std::make_unique<Bootstrap>(*store_, rank_, ranks_, mine_);
  start_bootstrap();
}

Mesh::~Mesh() {
  bootstrap_->stop();
  if (bootstrap_thread_.joinable()) bootstrap_thread_.join();
  engine_.run_on_loop([this] {
    for (const auto& peer : peers_) {
      if (peer->lost || !peer->out[0].link || !peer->out[0].link->ready) continue;
      peer->out[0].link->connection->post_on_loop({.header = {.kind = MessageKind::kGoodbye},
                                                   .payload = {},
                                                   .priority = kUrgent,
                                                   .done = nullptr,
                                                   .segment = nullptr});
    }
  });
  // A goodbye that does not fit into a socket for this long has a reader that is gone.
  std::atomic<bool> flushed{false};
  std::uint64_t timer = 0;
  const std::function<void()> look = [&] {
    flushed = flushed_on_loop();
    if (flushed) return engine_.notify_waiters_on_loop();
    timer = engine_.add_timer_on_loop(deadline_after(kLookAgainAfter), look);
  };
  engine_.run_on_loop(look);
  engine_.wait_until([&] { return flushed.load(); }, deadline_after(kGoodbyeLimit));
  engine_.run_on_loop([&] {
    if (!flushed) engine_.cancel_timer_on_loop(timer);
    close_on_loop();
  });
}

void Mesh::close_on_loop() {
  closing_ = true;
  *alive_ = false;
  peers_.clear();
  strangers_.clear();
  graveyard_.clear();
  listeners_.clear();
  transports_.clear();
}

PeerInfo Mesh::my_info_on_loop() {
  PeerInfo info{
      .nonce = random_nonce(), .host_id = this_host_id(config_), .settings = {}, .addresses = {}};
  for (const Setting& setting : settings_of(config_)) {
    if (setting.must_agree && setting.value != setting.standard) {
      info.settings.emplace_back(setting.name, setting.value);
    }
  }
  std::string why_not;
  std::erase_if(rows_, [&](const TransportRow& row) {
    auto transport = row.make({engine_, config_, log_});
    if (const auto reason = transport->unusable_because(); !reason.empty()) {
      why_not += fmt::format("; {}: {}", row.name, reason);
      return true;
    }
    listeners_.push_back(
        transport->listen_on_loop([this](std::unique_ptr<Connection> c) -> ConnectionEvents& {
          return accept_on_loop(std::move(c));
        }));
    info.addresses.emplace_back(row.name, listeners_.back()->address());
    transports_.push_back(std::move(transport));
    return false;
  });
  if (rows_.empty() && ranks_ > 1) {
    throw Error(ErrorCode::kUnsupported, "no transport can be used on this machine{}", why_not);
  }
  return info;
}

void Mesh::start_bootstrap() {
  bootstrap_thread_ = std::thread([this] {
    try {
      auto roster = bootstrap_->run();
      engine_.post([this, alive = alive_, roster = std::move(roster)]() mutable {
        if (*alive) install_on_loop(std::move(roster));
      });
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kAborted) return;
      engine_.post([this, alive = alive_, error] {
        if (*alive) fail_on_loop(error, true);
      });
    }
  });
}

void Mesh::fail_on_loop(const Error& error, bool alone) {
  if (closing_) return;
  log_(LogLevel::kWarn, "{}", error.what());
  alone_ = alone_ || alone;
  if (unusable_) return;
  unusable_ = error;
  for (const auto& [name, sink] : std::map(sinks_)) sink->on_unusable_on_loop(error, alone_);
}

void Mesh::install_on_loop(Roster roster) {
  try {
    check_settings(roster);
  } catch (const Error& error) {
    return fail_on_loop(error, true);
  }
  for (int r = 0; r < ranks_; ++r) {
    const PeerInfo& info = roster.peers[static_cast<std::size_t>(r)];
    const auto reaches = [&](const TransportRow& row) {
      return (!row.same_host_only || info.host_id == mine_.host_id) &&
             std::ranges::any_of(info.addresses,
                                 [&](const auto& a) { return a.first == row.name; });
    };
    const auto row = std::ranges::find_if(rows_, reaches);
    // Where no row fits, dialling reports it.
    peer_at(r).row = row == rows_.end() ? 0 : static_cast<std::size_t>(row - rows_.begin());
  }
  roster_ = std::move(roster);
  for (int r = 0; r < ranks_; ++r) {
    if (peer_at(r).in[0] || peer_at(r).in[1]) want_on_loop(r);
    // What was posted before the addresses were known.
    for (const Lane lane : {Lane::kControl, Lane::kData}) {
      if (!peer_at(r).out[static_cast<std::size_t>(lane)].waiting.empty()) dial_on_loop(r, lane);
    }
  }
  for (const auto& [name, sink] : std::map(sinks_)) sink->on_ready_on_loop();
}

void Mesh::check_settings(const Roster& roster) const {
  const auto text = [](const PeerInfo& info) {
    std::string out;
    for (const auto& [name, value] : info.settings) out += fmt::format(" {}={}", name, value);
    return out.empty() ? std::string(" all at their defaults") : out;
  };
  for (int r = 0; r < ranks_; ++r) {
    const PeerInfo& theirs = roster.peers[static_cast<std::size_t>(r)];
    if (theirs.settings == mine_.settings) continue;
    Error error(
        ErrorCode::kMismatch,
        "settings that must agree differ: rank {} has{}, rank {} has{}; set the same TREADLE_ "
        "variables on all ranks",
        rank_, text(mine_), r, text(theirs));
    throw error.blame(r);
  }
}

// ---- dispatch ----

Mesh::Peer& Mesh::peer_at(int peer) const { return *peers_.at(static_cast<std::size_t>(peer)); }
const std::optional<Error>& Mesh::lost_on_loop(int peer) const { return peer_at(peer).lost; }

Mesh::Sink* Mesh::sink_of(std::uint64_t communicator) const {
  const auto found = sinks_.find(communicator);
  return found == sinks_.end() ? nullptr : found->second;
}

void Mesh::deliver(Sink& sink, const Unclaimed& message) {
  const auto place = sink.on_header_on_loop(message.peer, message.header);
  if (place && !message.payload.empty()) std::ranges::copy(message.payload, place->begin());
  sink.on_payload_on_loop(message.peer, message.header, message.segment);
}

void Mesh::stash_on_loop(Unclaimed message) {
  const std::uint64_t communicator = message.header.communicator;
  if (Sink* sink = sink_of(communicator)) return deliver(*sink, message);
  // Ranks leave a group one after the other.
  if (message.header.kind == MessageKind::kGoodbye && ended_.contains(communicator)) return;
  unclaimed_bytes_ += message.payload.size() + MessageHeader::kEncodedBytes;
  if (unclaimed_bytes_ > kMaxUnclaimedBytes) {
    throw Error(ErrorCode::kCorrupt,
                "rank {} sent more than {} bytes for communicators that do not exist here",
                message.peer, kMaxUnclaimedBytes);
  }
  unclaimed_[communicator].push_back(std::move(message));
}

void Mesh::add_sink_on_loop(std::uint64_t communicator, Sink& sink) {
  sinks_[communicator] = &sink;
  ended_.erase(communicator);
  if (unusable_) return sink.on_unusable_on_loop(*unusable_, alone_);
  const auto waiting = unclaimed_.find(communicator);
  if (waiting == unclaimed_.end()) return;
  const auto messages = std::move(waiting->second);
  unclaimed_.erase(waiting);
  for (const Unclaimed& message : messages) {
    unclaimed_bytes_ -= message.payload.size() + MessageHeader::kEncodedBytes;
    deliver(sink, message);
  }
}

void Mesh::remove_sink_on_loop(std::uint64_t communicator) {
  cancel_on_loop(communicator);
  sinks_.erase(communicator);
  ended_.insert(communicator);
}

bool Mesh::same_host_on_loop(int peer) const { return roster_ && share_host_on_loop(rank_, peer); }

bool Mesh::share_host_on_loop(int one, int other) const {
  if (one == other) return true;
  const PeerInfo& a = roster_->peers.at(static_cast<std::size_t>(one));
  const PeerInfo& b = roster_->peers.at(static_cast<std::size_t>(other));
  const auto offers = [](const PeerInfo& info, std::string_view transport) {
    return std::ranges::any_of(info.addresses, [&](const auto& x) { return x.first == transport; });
  };
  return a.host_id == b.host_id && std::ranges::any_of(rows_, [&](const TransportRow& row) {
           return row.same_host_only && offers(a, row.name) && offers(b, row.name);
         });
}

std::shared_ptr<SharedSegment> Mesh::make_segment_on_loop(std::size_t bytes) {
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].same_host_only) return transports_[i]->make_segment(bytes);
  }
  return nullptr;
}

// ---- liveness ----

void Mesh::post_alive(std::function<void()> function) {
  engine_.post([alive = alive_, function = std::move(function)] {
    if (*alive) function();
  });
}

void Mesh::tick_on_loop() {
  const auto now = Clock::now();
  engine_.add_timer_on_loop(now + config_.heartbeat / 4, [this, alive = alive_] {
    if (*alive) tick_on_loop();
  });
  // If this process itself was stopped or starved, its peers' silence says nothing about them.
  const bool was_away = now - last_tick_ > config_.heartbeat;
  const auto last_tick = std::exchange(last_tick_, now);
  drop_strangers_on_loop(now);
  for (int r = 0; r < ranks_; ++r) {
    Peer& peer = peer_at(r);
    if (std::exchange(peer.data_heard, false)) {
      peer.last_heard = std::max(peer.last_heard, last_tick);
    }
    if (was_away) peer.last_heard = now;
    if (!peer.lost && r != rank_) check_peer_on_loop(r, now);
  }
}

void Mesh::check_peer_on_loop(int rank, Deadline now) {
  Peer& peer = peer_at(rank);
  Peer::Out& out = peer.out[0];
  const auto limit = 2 * config_.heartbeat;
  const auto seconds = [](auto span) { return std::chrono::duration<double>(span).count(); };
  if (out.link && out.link->ready) {
    out.link->connection->post_on_loop({.header = {.kind = MessageKind::kHeartbeat},
                                        .payload = {},
                                        .priority = kUrgent,
                                        .done = nullptr,
                                        .segment = nullptr});
  }
  if (peer.departed) return;
  if (peer.in[0] && now - peer.last_heard > limit) {
    return lose_on_loop(rank,
                        Error(ErrorCode::kPeerLost,
                              "nothing was heard from it for {:.1f} s: it is stopped or cut off",
                              seconds(now - peer.last_heard)));
  }
  if (!peer.in[0] && out.ready_since && now - *out.ready_since > limit) {
    return lose_on_loop(rank,
                        Error(ErrorCode::kPeerLost,
                              "it can be reached but does not reach this rank back within {:.1f} s",
                              seconds(limit)));
  }
  for (const Peer::Out& lane : peer.out) {
    if (lane.wanted_since && !lane.ready_since && now - *lane.wanted_since > limit) {
      return lose_on_loop(
          rank, Error(ErrorCode::kPeerLost, "it does not answer within {:.1f} s{}{}",
                      seconds(limit), lane.last_reason.empty() ? "" : ": ", lane.last_reason));
    }
  }
}

// Ends a link before anybody is told of it: data must not move any more when operations return.
void Mesh::bury_on_loop(std::unique_ptr<ConnectionEvents> link) {
  graveyard_.push_back(std::move(link));
  post_alive([this] { graveyard_.clear(); });
}

void Mesh::bury_links_on_loop(Peer& peer) {
  for (auto& out : peer.out) {
    out.waiting.clear();
    if (out.link) bury_on_loop(std::move(out.link));
  }
  for (auto& in : peer.in) {
    if (in) bury_on_loop(std::move(in));
  }
}

void Mesh::lose_on_loop(int rank, Error error) {
  Peer& peer = peer_at(rank);
  if (peer.lost || closing_) return;
  Error full(error.code() == ErrorCode::kCorrupt ? ErrorCode::kCorrupt : ErrorCode::kPeerLost,
             "rank {} is lost: {}", rank, error.what());
  peer.lost = full.blame(rank);
  log_(peer.departed ? LogLevel::kInfo : LogLevel::kWarn, "{}", peer.lost->what());
  bury_links_on_loop(peer);
  // Later, since a sink may be on the call stack right now.
  post_alive([this, rank] {
    for (const auto& [name, sink] : std::map(sinks_)) {
      if (sink_of(name) == sink) sink->on_peer_lost_on_loop(rank, *peer_at(rank).lost);
    }
  });
}

}  // namespace treadle
