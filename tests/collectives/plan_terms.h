// What a plan makes of an element, as a term: a sum of ranks' inputs with its brackets. So a rank
// that is left out, counted twice or folded out of turn is seen exactly, whatever the dtype, the
// operation and the rounding.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace treadle {

// Equal terms have equal numbers.
using Term = int;
inline constexpr Term kUnwritten = -1;

class Terms {
 public:
  explicit Terms(int ranks);
  Term input_of(int rank) const { return rank; }
  Term fold(Term left, Term right);
  // The ranks in the term from left to right, each as often as it has been folded in.
  const std::vector<int>& ranks_in(Term term) const;
  std::string text(Term term) const;  // "((0+1)+2)"

 private:
  struct Node {
    Term left = kUnwritten;
    Term right = kUnwritten;
    std::vector<int> ranks = {};
  };
  std::vector<Node> nodes_;
  std::map<std::pair<Term, Term>, Term> known_;
  std::pair<Term, Term> last_ = {kUnwritten, kUnwritten};  // the same fold is asked for in a row
  Term last_term_ = kUnwritten;
};

// Element `index` of the inputs of all ranks in `term`.
struct Cell {
  Term term = kUnwritten;
  std::uint32_t index = 0;
  bool operator==(const Cell&) const = default;
};

}  // namespace treadle
