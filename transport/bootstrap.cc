#include "transport/bootstrap.h"

#include <algorithm>
#include <random>

#include "core/error.h"
#include "core/wire.h"

namespace treadle {
namespace {

constexpr std::uint32_t kFormat = 0x7DE10001;
constexpr std::size_t kMaxText = 4096;
constexpr std::size_t kMaxPairs = 64;
constexpr std::size_t kMaxInfo = 16 << 10;
constexpr milliseconds kSlice{100};

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string to_string(const WireBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes().data()), buffer.bytes().size()};
}
ConstBytes bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

void put_pairs(WireBuffer& out, const Pairs& pairs) {
  out.put(static_cast<std::uint32_t>(pairs.size()));
  for (const auto& [first, second] : pairs) {
    out.put_string(first);
    out.put_string(second);
  }
}

Pairs get_pairs(WireReader& in) {
  const auto count = in.get<std::uint32_t>();
  if (count > kMaxPairs) {
    throw Error(ErrorCode::kCorrupt, "peer info: {} pairs, at most {}", count, kMaxPairs);
  }
  Pairs pairs;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto first = in.get_string(kMaxText);
    auto second = in.get_string(kMaxText);
    pairs.emplace_back(std::move(first), std::move(second));
  }
  return pairs;
}

std::uint64_t random_id() {
  std::random_device source;
  const std::uint64_t id = (static_cast<std::uint64_t>(source()) << 32) | source();
  return id == 0 ? 1 : id;
}

std::string key_of(const std::string& run, int rank) {
  return fmt::format("treadle/{}/{}", run, rank);
}
std::string all_key_of(const std::string& run) { return fmt::format("treadle/{}/all", run); }
constexpr std::string_view kRunKey = "treadle/run";

}  // namespace

std::string encode(const PeerInfo& info) {
  WireBuffer out;
  out.put(kFormat);
  out.put(info.nonce);
  out.put(info.host_id);
  put_pairs(out, info.settings);
  put_pairs(out, info.addresses);
  return to_string(out);
}

PeerInfo decode_peer_info(ConstBytes in) {
  WireReader r(in);
  if (const auto format = r.get<std::uint32_t>(); format != kFormat) {
    throw Error(ErrorCode::kCorrupt,
                "peer info: format {:#x}, expected {:#x}; do all ranks run the same version?",
                format, kFormat);
  }
  PeerInfo info;
  info.nonce = r.get<std::uint64_t>();
  info.host_id = r.get<std::uint64_t>();
  info.settings = get_pairs(r);
  info.addresses = get_pairs(r);
  return info;
}

std::string encode(const Roster& roster) {
  WireBuffer out;
  out.put(roster.run_id);
  out.put(static_cast<std::uint32_t>(roster.peers.size()));
  for (const PeerInfo& peer : roster.peers) out.put_string(encode(peer));
  return to_string(out);
}

Roster decode_roster(ConstBytes in, int ranks) {
  WireReader r(in);
  Roster roster;
  roster.run_id = r.get<std::uint64_t>();
  const auto count = r.get<std::uint32_t>();
  if (count != static_cast<std::uint32_t>(ranks)) {
    throw Error(ErrorCode::kCorrupt, "roster: {} ranks, this rank was started with {}", count,
                ranks);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    roster.peers.push_back(decode_peer_info(r.get_bytes(kMaxInfo)));
  }
  return roster;
}

Bootstrap::Bootstrap(Store& store, int rank, int ranks, PeerInfo mine)
    : store_(store), rank_(rank), ranks_(ranks), mine_(std::move(mine)) {
  for (int r = 0; r < ranks; ++r) {
    if (r != rank) missing_.push_back(r);
  }
}

Roster Bootstrap::run() {
  return attempt([&] { return rank_ == 0 ? collect() : join(); },
                 "exchanging addresses of {} ranks through the store as rank {}", ranks_, rank_);
}

std::vector<int> Bootstrap::missing() const {
  const std::lock_guard lock(mutex_);
  return missing_;
}

void Bootstrap::set_missing(std::vector<int> ranks) {
  const std::lock_guard lock(mutex_);
  missing_ = std::move(ranks);
}

void Bootstrap::check_stopped() const {
  if (stopped_) throw Error(ErrorCode::kAborted, "bootstrap was stopped");
}

Roster Bootstrap::collect() {
  Roster roster{.run_id = random_id(),
                .peers = std::vector<PeerInfo>(static_cast<std::size_t>(ranks_))};
  const std::string run = fmt::format("{:016x}", roster.run_id);
  roster.peers[0] = mine_;
  store_.set(kRunKey, run);
  auto waiting = missing();
  while (!waiting.empty()) {
    std::vector<int> still;
    for (const int peer : waiting) {
      check_stopped();
      // Only the first one is waited for; the others are looked at in passing.
      const auto by = still.empty() ? deadline_after(kSlice) : Clock::now();
      const auto answer = store_.get(key_of(run, peer), by);
      if (answer) {
        roster.peers[static_cast<std::size_t>(peer)] = decode_peer_info(bytes_of(*answer));
      } else {
        still.push_back(peer);
      }
    }
    waiting = still;
    set_missing(waiting);
  }
  store_.set(all_key_of(run), encode(roster));
  return roster;
}

Roster Bootstrap::join() {
  std::string answered;  // the run that this rank has answered
  const auto since = Clock::now();
  auto next_look = since + std::chrono::seconds(1);
  while (true) {
    check_stopped();
    const auto run = store_.get(kRunKey, deadline_after(kSlice));
    if (!run) {
      set_missing({0});
      continue;
    }
    if (*run != answered) {
      store_.set(key_of(*run, rank_), encode(mine_));
      answered = *run;
    }
    if (const auto all = store_.get(all_key_of(*run), deadline_after(kSlice))) {
      const Roster roster = decode_roster(bytes_of(*all), ranks_);
      if (roster.peers[static_cast<std::size_t>(rank_)].nonce == mine_.nonce) {
        set_missing({});
        return roster;
      }
      // An earlier run's answer: rank 0 has not started yet.
      set_missing({0});
      store_.get("treadle/none", deadline_after(kSlice));
    }
    if (Clock::now() >= next_look) {
      look_for_missing(*run);
      next_look = Clock::now() + std::chrono::seconds(1);
    }
  }
}

void Bootstrap::look_for_missing(const std::string& run) {
  std::vector<int> absent;
  for (int peer = 1; peer < ranks_; ++peer) {
    check_stopped();
    if (peer != rank_ && !store_.get(key_of(run, peer), Clock::now())) absent.push_back(peer);
  }
  // Everybody has answered and yet there is no roster: then it is rank 0 that does not go on.
  if (absent.empty()) absent.push_back(0);
  set_missing(absent);
}

}  // namespace treadle
