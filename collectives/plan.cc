#include "collectives/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

namespace treadle {
namespace {

std::string text_of(const Place& place) {
  static constexpr std::array kNames = {"in", "out", "scratch"};
  return fmt::format("{}[{}]", kNames.at(static_cast<std::size_t>(place.kind)), place.index);
}

std::string text_of(const Step& step) {
  static constexpr std::array kLocalNames = {"all_reduce", "reduce_scatter", "all_gather",
                                             "broadcast", "barrier"};
  switch (step.kind) {
    case StepKind::kSend:
      return fmt::format("send {} -> {}", text_of(step.from), step.peer);
    case StepKind::kRecv:
      return fmt::format("recv {} <- {}", text_of(step.to), step.peer);
    case StepKind::kCopy:
      return fmt::format("{} = {}", text_of(step.to), text_of(step.from));
    case StepKind::kLocal:
      return fmt::format("local {}", kLocalNames.at(static_cast<std::size_t>(step.local)));
    case StepKind::kReduce: {
      std::string sum;
      for (const Place& place : step.operands) sum += (sum.empty() ? "" : " + ") + text_of(place);
      return fmt::format("{} = {}", text_of(step.to), sum);
    }
  }
  return "?";
}

}  // namespace

std::size_t lane_bytes_of_fan_in(int ranks) {
  constexpr std::size_t kTogether = 2 << 20;
  constexpr std::size_t kLeast = (64 << 10) - kRoomForHeader;
  const std::size_t share = std::bit_floor(kTogether / static_cast<std::size_t>(ranks));
  return std::clamp(share - std::min(share, kRoomForHeader), kLeast, Plan{}.lane_bytes);
}

Round exchange_and_fold(int rank, int ranks, Place folded) {
  const auto slot_of = [rank](int peer) { return scratch(peer < rank ? peer : peer - 1); };
  Round round;
  for (int hop = 1; hop < ranks; ++hop) {
    const int to = (rank + hop) % ranks;
    const int from = (rank + ranks - hop) % ranks;
    round.steps.push_back(send_step(to, in_chunk(to)));
    round.steps.push_back(recv_step(from, slot_of(from)));
  }
  std::vector<Place> operands;
  for (int r = 0; r < ranks; ++r) operands.push_back(r == rank ? in_chunk(rank) : slot_of(r));
  round.steps.push_back(reduce_step(folded, std::move(operands)));
  return round;
}

bool any_ranks(const PlanInput&) { return true; }

bool one_host(const PlanInput& input) {
  if (input.ranks == 1) return true;
  if (input.host_of_rank.empty()) return false;
  return std::ranges::all_of(input.host_of_rank,
                             [&](int host) { return host == input.host_of_rank.front(); });
}

std::string to_text(const Plan& plan) {
  std::string text;
  for (std::size_t r = 0; r < plan.rounds.size(); ++r) {
    text += fmt::format("round {}:", r);
    for (const Step& step : plan.rounds[r].steps) {
      text += fmt::format("{} {}", text.back() == ':' ? "" : ",", text_of(step));
    }
    text += "\n";
  }
  return text;
}

}  // namespace treadle
