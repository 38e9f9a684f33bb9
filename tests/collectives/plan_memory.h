// One rank's input, output and scratch slots while plans are played, in terms instead of bytes.
//
// What a plan may not do with them throws PlanFault: read what nobody wrote, write outside of a
// place or less than it has. A scratch slot takes any size up to its own and then holds that much.
#pragma once
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "collectives/plan.h"
#include "tests/collectives/plan_terms.h"

namespace treadle {

class PlanFault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A rank's input and output, as places in one memory: they may share it.
struct Buffers {
  std::size_t in_at = 0;
  std::size_t in_elems = 0;
  std::size_t out_at = 0;
  std::size_t out_elems = 0;
};

struct Region {
  std::size_t at = 0;
  std::size_t elems = 0;
  bool overlaps(const Region& other) const {
    return elems > 0 && other.elems > 0 && at < other.at + other.elems && other.at < at + elems;
  }
};

class RankMemory {
 public:
  // The input holds `input`; everything else is unwritten. `plan` outlives this.
  RankMemory(const Plan& plan, const Buffers& buffers, Term input);

  std::vector<Cell> read(const Place& place) const;
  void write(const Place& place, const std::vector<Cell>& cells);
  std::vector<Cell> input() const { return cells_of({buffers_.in_at, buffers_.in_elems}); }
  std::vector<Cell> output() const { return cells_of({buffers_.out_at, buffers_.out_elems}); }
  void write_output(const std::vector<Cell>& cells);

  std::size_t scratch_elems() const { return holds_.size() * slot_elems_; }
  Region region_of(const Place& place) const;
  std::vector<Region> touched_by(const Step& step) const;  // all that it reads or writes

 private:
  std::vector<Cell> cells_of(const Region& region) const;

  const Plan& plan_;
  Buffers buffers_;
  std::size_t slot_elems_ = 0;
  std::size_t slots_at_ = 0;
  std::vector<Cell> cells_;                        // input and output, then the slots
  std::vector<std::optional<std::size_t>> holds_;  // elements in each slot
};

std::string text_of(const Place& place);  // "out[3]"

}  // namespace treadle
