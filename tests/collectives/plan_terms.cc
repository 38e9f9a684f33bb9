#include "tests/collectives/plan_terms.h"

#include <fmt/format.h>

namespace treadle {

Terms::Terms(int ranks) {
  for (int rank = 0; rank < ranks; ++rank) nodes_.push_back({.ranks = {rank}});
}

Term Terms::fold(Term left, Term right) {
  if (last_ == std::pair(left, right)) return last_term_;
  const auto [known, is_new] = known_.try_emplace({left, right}, static_cast<Term>(nodes_.size()));
  if (is_new) {
    Node node{.left = left, .right = right, .ranks = ranks_in(left)};
    const std::vector<int>& more = ranks_in(right);
    node.ranks.insert(node.ranks.end(), more.begin(), more.end());
    nodes_.push_back(std::move(node));
  }
  last_ = {left, right};
  return last_term_ = known->second;
}

const std::vector<int>& Terms::ranks_in(Term term) const {
  return nodes_.at(static_cast<std::size_t>(term)).ranks;
}

std::string Terms::text(Term term) const {
  if (term == kUnwritten) return "nothing";
  const Node& node = nodes_.at(static_cast<std::size_t>(term));
  if (node.left == kUnwritten) return std::to_string(term);
  return fmt::format("({}+{})", text(node.left), text(node.right));
}

}  // namespace treadle
