// One call of a collective for plan tests: its buffers, and what every rank must end with.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "collectives/algorithms.h"
#include "tests/collectives/plan_check.h"

namespace treadle {

struct PlanCase {
  Collective collective = Collective::kAllReduce;
  int ranks = 1;
  int root = 0;
  // Of the whole buffer of all_reduce, broadcast and reduce; elsewhere of one rank's block.
  std::size_t elems = 0;
  bool in_place = false;  // input and output share memory, where the collective allows it
  std::vector<int> hosts = {};
};

bool has_root(Collective collective);
bool has_in_place(Collective collective);
std::string text_of(const PlanCase& tested);

std::vector<Plan> plans_of(const Algorithm& algorithm, const PlanCase& tested);

// Plays the plans and compares every element of every output with what the collective promises,
// down to the order of its additions. Throws PlanFault.
Played prove(const PlanCase& tested, OrderClass order, std::span<const Plan> plans);

}  // namespace treadle
