#include "tests/collectives/plan_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace treadle {
namespace {

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw PlanFault(fmt::format(text, std::forward<Args>(args)...));
}

// By rank: how many of its rounds have certainly begun at some moment.
using Clock = std::vector<int>;

struct Rank {
  const Plan& plan;
  RankMemory memory;
  std::vector<Clock> clocks = {};  // clocks[r]: before this rank begins round r
  std::size_t round = 0;
  bool entered = false;   // this round's messages are sent
  bool received = false;  // and what it receives is in place
  std::size_t step = 0;   // of this round: the next one to run

  bool done() const { return round == plan.rounds.size(); }
  const std::vector<Step>& steps() const { return plan.rounds[round].steps; }
  bool at_local_step() const {
    return received && step < steps().size() && steps()[step].kind == StepKind::kLocal;
  }
};

// A step and a part of the memory that it reads or writes.
struct Use {
  const Step* step = nullptr;
  Region region = {};
};

std::vector<std::vector<Use>> uses_by_round(const Rank& rank) {
  std::vector<std::vector<Use>> uses;
  for (const Round& round : rank.plan.rounds) {
    uses.emplace_back();
    for (const Step& step : round.steps) {
      for (const Region& region : rank.memory.touched_by(step))
        uses.back().push_back({&step, region});
    }
  }
  return uses;
}

class Player {
 public:
  Player(std::span<const Plan> plans, std::span<const Buffers> buffers, std::span<const int> hosts,
         int root);
  Played play();

 private:
  using Name = std::tuple<std::size_t, int, int>;  // round, from, to

  Rank& rank_at(int r) { return ranks_[static_cast<std::size_t>(r)]; }
  const Rank& rank_at(int r) const { return ranks_[static_cast<std::size_t>(r)]; }
  bool advance(int r);
  void send_all(int r);
  bool all_here(int r) const;
  void receive_all(int r);
  void compute(Rank& rank, const Step& step);
  std::vector<Cell> fold(const std::vector<std::vector<Cell>>& operands);
  std::vector<int> host_mates(int r) const;
  bool run_local(int r);
  void apply_local(LocalKind kind, const std::vector<int>& mates);
  void hear(Rank& rank, int other);
  void check_ended() const;
  void check_landings(int r) const;
  void check_landing(int r, std::size_t round, const Step& landing,
                     const std::vector<std::vector<Use>>& uses) const;
  bool over_before(int r, std::size_t round, const Step& step, const Clock& clock) const;

  const std::vector<int> hosts_;
  const int root_;
  std::vector<Rank> ranks_;
  std::map<Name, std::vector<Cell>> messages_;
  std::set<std::size_t> message_rounds_;
  Played played_;
};

// What can be said of one plan alone.
void check_places(const Plan& plan, int rank, int ranks) {
  const auto inside = [&](const Place& place) {
    const int limit = place.kind == Place::Kind::kIn    ? plan.in_chunks
                      : place.kind == Place::Kind::kOut ? plan.out_chunks
                                                        : plan.scratch_slots;
    if (place.index < 0 || place.index >= limit)
      fail("rank {}: there is no {}, but {}", rank, text_of(place), limit);
  };
  for (const Round& round : plan.rounds) {
    std::set<std::pair<StepKind, int>> peers;  // a message is known by its round and ranks only
    for (const Step& step : round.steps) {
      const bool sends = step.kind == StepKind::kSend;
      if (sends || step.kind == StepKind::kRecv) {
        if (step.peer < 0 || step.peer >= ranks || step.peer == rank)
          fail("rank {}: rank {} cannot be a peer", rank, step.peer);
        if (!peers.emplace(step.kind, step.peer).second)
          fail("rank {}: two messages of a round with rank {}", rank, step.peer);
      }
      if (sends || step.kind == StepKind::kCopy) inside(step.from);
      if (sends || step.kind == StepKind::kLocal) continue;
      inside(step.to);
      if (step.to.kind == Place::Kind::kIn) fail("rank {}: writes to its input", rank);
      if (step.kind == StepKind::kReduce && step.operands.empty())
        fail("rank {}: folds nothing", rank);
      std::ranges::for_each(step.operands, inside);
    }
  }
}

Player::Player(std::span<const Plan> plans, std::span<const Buffers> buffers,
               std::span<const int> hosts, int root)
    : hosts_(hosts.begin(), hosts.end()), root_(root), played_(static_cast<int>(plans.size())) {
  const int ranks = static_cast<int>(plans.size());
  for (int r = 0; r < ranks; ++r) {
    const auto at = static_cast<std::size_t>(r);
    check_places(plans[at], r, ranks);
    if (plans[at].lane_bytes != plans[0].lane_bytes)
      fail("rank {}: lanes of {} bytes, but {} on rank 0", r, plans[at].lane_bytes,
           plans[0].lane_bytes);
    ranks_.push_back({.plan = plans[at],
                      .memory = RankMemory(plans[at], buffers[at], played_.terms.input_of(r)),
                      .clocks = {Clock(plans.size(), 0)}});
    played_.scratch_elems.push_back(ranks_.back().memory.scratch_elems());
  }
  played_.sent_elems.resize(plans.size());
  played_.received_elems.resize(plans.size());
}

Played Player::play() {
  const int ranks = static_cast<int>(ranks_.size());
  for (bool moved = true; moved;) {
    moved = false;
    for (int r = 0; r < ranks; ++r) {
      try {
        if (advance(r)) moved = true;
      } catch (const PlanFault& fault) {
        fail("rank {} round {}: {}", r, rank_at(r).round, fault.what());
      }
    }
  }
  check_ended();
  for (int r = 0; r < ranks; ++r) {
    const Rank& rank = rank_at(r);
    check_landings(r);
    played_.outs.push_back(rank.memory.output());
    played_.heard.push_back(rank.clocks.back());
  }
  played_.message_rounds = static_cast<int>(message_rounds_.size());
  return std::move(played_);
}

// Takes a rank as far as it can go now; says whether it moved.
bool Player::advance(int r) {
  Rank& rank = rank_at(r);
  bool moved = false;
  while (!rank.done()) {
    if (!rank.entered) {
      send_all(r);
      moved = true;
    }
    if (!rank.received) {
      if (!all_here(r)) return moved;
      receive_all(r);
      moved = true;
    }
    while (rank.step < rank.steps().size()) {
      if (rank.at_local_step()) {
        if (!run_local(r)) return moved;
      } else {
        compute(rank, rank.steps()[rank.step++]);
      }
      moved = true;
    }
    ++rank.round;
    rank.entered = rank.received = false;
    rank.step = 0;
  }
  return moved;
}

void Player::send_all(int r) {
  Rank& rank = rank_at(r);
  rank.entered = true;
  rank.clocks.push_back(rank.clocks.back());
  ++rank.clocks.back()[static_cast<std::size_t>(r)];
  for (const Step& step : rank.steps()) {
    if (step.kind != StepKind::kSend) continue;
    std::vector<Cell> cells = rank.memory.read(step.from);
    played_.sent_elems[static_cast<std::size_t>(r)] += cells.size();
    message_rounds_.insert(rank.round);
    messages_.emplace(Name{rank.round, r, step.peer}, std::move(cells));
  }
}

bool Player::all_here(int r) const {
  const Rank& rank = rank_at(r);
  return std::ranges::all_of(rank.steps(), [&](const Step& step) {
    return step.kind != StepKind::kRecv || messages_.contains({rank.round, step.peer, r});
  });
}

void Player::receive_all(int r) {
  Rank& rank = rank_at(r);
  rank.received = true;
  for (const Step& step : rank.steps()) {
    if (step.kind != StepKind::kRecv) continue;
    const auto message = messages_.extract({rank.round, step.peer, r});
    rank.memory.write(step.to, message.mapped());
    played_.received_elems[static_cast<std::size_t>(r)] += message.mapped().size();
    hear(rank, step.peer);
  }
}

// The next round of `rank` begins after the beginning of this same round of `other`.
void Player::hear(Rank& rank, int other) {
  Clock& clock = rank.clocks.back();
  const Clock& heard = rank_at(other).clocks[rank.round];
  for (std::size_t b = 0; b < clock.size(); ++b) clock[b] = std::max(clock[b], heard[b]);
  int& begun = clock[static_cast<std::size_t>(other)];
  begun = std::max(begun, static_cast<int>(rank.round) + 1);
}

void Player::compute(Rank& rank, const Step& step) {
  if (step.kind == StepKind::kCopy) rank.memory.write(step.to, rank.memory.read(step.from));
  if (step.kind != StepKind::kReduce) return;
  std::vector<std::vector<Cell>> operands;
  for (const Place& place : step.operands) operands.push_back(rank.memory.read(place));
  rank.memory.write(step.to, fold(operands));
}

std::vector<Cell> Player::fold(const std::vector<std::vector<Cell>>& operands) {
  std::vector<Cell> sum = operands.front();
  for (std::size_t o = 1; o < operands.size(); ++o) {
    const std::vector<Cell>& more = operands[o];
    if (more.size() != sum.size()) fail("folds {} elements with {}", sum.size(), more.size());
    for (std::size_t i = 0; i < sum.size(); ++i) {
      if (sum[i].index != more[i].index)
        fail("folds element {} with element {}", sum[i].index, more[i].index);
      sum[i].term = played_.terms.fold(sum[i].term, more[i].term);
    }
  }
  return sum;
}

std::vector<int> Player::host_mates(int r) const {
  if (hosts_.empty()) return {r};
  std::vector<int> mates;
  for (int m = 0; m < static_cast<int>(ranks_.size()); ++m) {
    if (hosts_[static_cast<std::size_t>(m)] == hosts_[static_cast<std::size_t>(r)])
      mates.push_back(m);
  }
  return mates;
}

// Runs the local step where this rank stands for all ranks of its host, if all have come to it.
bool Player::run_local(int r) {
  const Rank& first = rank_at(r);
  const LocalKind kind = first.steps()[first.step].local;
  const std::vector<int> mates = host_mates(r);
  for (int m : mates) {
    const Rank& mate = rank_at(m);
    if (mate.done() || mate.round != first.round || !mate.at_local_step()) return false;
    if (mate.steps()[mate.step].local != kind) fail("rank {} has another local step", m);
  }
  apply_local(kind, mates);
  for (int m : mates) {
    // A broadcast makes nobody wait for any rank but the root.
    for (int n : mates) {
      if (n != m && (kind != LocalKind::kBroadcast || n == root_)) hear(rank_at(m), n);
    }
    ++rank_at(m).step;
  }
  return true;
}

void Player::apply_local(LocalKind kind, const std::vector<int>& mates) {
  if (kind == LocalKind::kBarrier) return;
  const bool is_broadcast = kind == LocalKind::kBroadcast;
  std::vector<std::vector<Cell>> inputs;  // all are read before any is written: they may share
  for (int m : mates) {
    const RankMemory& memory = rank_at(m).memory;
    inputs.push_back(is_broadcast ? memory.output() : memory.input());
  }
  std::vector<Cell> result;
  if (is_broadcast) {
    const auto root = std::ranges::find(mates, root_);
    if (root == mates.end()) fail("a local broadcast without its root {}", root_);
    result = inputs[static_cast<std::size_t>(root - mates.begin())];
  } else if (kind == LocalKind::kAllGather) {
    for (const auto& input : inputs) result.insert(result.end(), input.begin(), input.end());
  } else {
    result = fold(inputs);
  }
  for (std::size_t i = 0; i < mates.size(); ++i) {
    RankMemory& memory = rank_at(mates[i]).memory;
    if (kind != LocalKind::kReduceScatter) {
      memory.write_output(result);
      continue;
    }
    const auto share = static_cast<std::ptrdiff_t>(result.size() / mates.size());
    const auto begin = result.begin() + static_cast<std::ptrdiff_t>(i) * share;
    memory.write_output({begin, begin + share});
  }
}

void Player::check_ended() const {
  std::string waits;
  for (int r = 0; r < static_cast<int>(ranks_.size()); ++r) {
    const Rank& rank = rank_at(r);
    if (rank.done()) continue;
    waits += fmt::format(" rank {} waits in round {} for", r, rank.round);
    if (rank.received) waits += " the local step of its host";
    for (const Step& step : rank.steps()) {
      const bool missing =
          step.kind == StepKind::kRecv && !messages_.contains({rank.round, step.peer, r});
      if (missing && !rank.received) waits += fmt::format(" rank {}", step.peer);
    }
    waits += ";";
  }
  if (!waits.empty()) fail("deadlock:{}", waits);
  if (messages_.empty()) return;
  const auto& [round, from, to] = messages_.begin()->first;
  fail("round {}: nobody receives the message of rank {} to rank {}", round, from, to);
}

// All else that uses the place of a message must be over when the message can land.
void Player::check_landings(int r) const {
  const Rank& rank = rank_at(r);
  const auto uses = uses_by_round(rank);
  for (std::size_t round = 0; round < uses.size(); ++round) {
    for (const Step& step : rank.plan.rounds[round].steps) {
      if (step.kind == StepKind::kRecv) check_landing(r, round, step, uses);
    }
  }
}

// It can land as soon as its sender has begun the round and this rank is at most early_rounds
// before it.
void Player::check_landing(int r, std::size_t round, const Step& landing,
                           const std::vector<std::vector<Use>>& uses) const {
  const Rank& rank = rank_at(r);
  Clock clock = rank_at(landing.peer).clocks[round];
  clock[static_cast<std::size_t>(landing.peer)] = static_cast<int>(round) + 1;
  const Region place = rank.memory.region_of(landing.to);
  const auto early = static_cast<std::size_t>(rank.plan.early_rounds);
  for (std::size_t used = round - std::min(round, early); used <= round; ++used) {
    for (const Use& use : uses[used]) {
      if (use.step == &landing || !place.overlaps(use.region)) continue;
      const bool is_message =
          use.step->kind == StepKind::kSend || use.step->kind == StepKind::kRecv;
      // Folds, copies and local steps of the message's own round come after it.
      if (used == round ? !is_message : over_before(r, used, *use.step, clock)) continue;
      fail("rank {} round {}: the message of rank {} may land in {} while round {} uses it", r,
           round, landing.peer, text_of(landing.to), used);
    }
  }
}

// Whether a step of rank r is certainly over at the moment of `clock`.
bool Player::over_before(int r, std::size_t round, const Step& step, const Clock& clock) const {
  const auto has_left = [&](int rank) {
    return clock[static_cast<std::size_t>(rank)] > static_cast<int>(round) + 1;
  };
  return has_left(r) || (step.kind == StepKind::kSend && has_left(step.peer));
}

}  // namespace

Played play(std::span<const Plan> plans, std::span<const Buffers> buffers,
            std::span<const int> hosts, int root) {
  return Player(plans, buffers, hosts, root).play();
}

}  // namespace treadle
