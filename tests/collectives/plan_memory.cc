#include "tests/collectives/plan_memory.h"

#include <fmt/format.h>

#include <algorithm>

namespace treadle {
namespace {

std::size_t cut(std::size_t elems, int chunk, int chunks) {
  return elems * static_cast<std::size_t>(chunk) / static_cast<std::size_t>(chunks);
}

std::size_t longest_chunk(std::size_t elems, int chunks) {
  const auto n = static_cast<std::size_t>(chunks);
  return (elems + n - 1) / n;
}

}  // namespace

RankMemory::RankMemory(const Plan& plan, const Buffers& buffers, Term input)
    : plan_(plan),
      buffers_(buffers),
      slot_elems_(std::max(longest_chunk(buffers.in_elems, plan.in_chunks),
                           longest_chunk(buffers.out_elems, plan.out_chunks))),
      slots_at_(std::max(buffers.in_at + buffers.in_elems, buffers.out_at + buffers.out_elems)),
      holds_(static_cast<std::size_t>(plan.scratch_slots)) {
  cells_.resize(slots_at_ + scratch_elems());
  for (std::size_t i = 0; i < buffers.in_elems; ++i) {
    cells_[buffers.in_at + i] = {input, static_cast<std::uint32_t>(i)};
  }
}

Region RankMemory::region_of(const Place& place) const {
  if (place.kind == Place::Kind::kScratch)
    return {slots_at_ + static_cast<std::size_t>(place.index) * slot_elems_, slot_elems_};
  const bool is_in = place.kind == Place::Kind::kIn;
  const std::size_t elems = is_in ? buffers_.in_elems : buffers_.out_elems;
  const int chunks = is_in ? plan_.in_chunks : plan_.out_chunks;
  const std::size_t begin = cut(elems, place.index, chunks);
  const std::size_t end = cut(elems, place.index + 1, chunks);
  return {(is_in ? buffers_.in_at : buffers_.out_at) + begin, end - begin};
}

std::vector<Region> RankMemory::touched_by(const Step& step) const {
  std::vector<Region> regions;
  const auto add = [&](const Place& place) { regions.push_back(region_of(place)); };
  if (step.kind == StepKind::kSend || step.kind == StepKind::kCopy) add(step.from);
  if (step.kind == StepKind::kRecv || step.kind == StepKind::kCopy) add(step.to);
  if (step.kind == StepKind::kReduce) {
    add(step.to);
    std::ranges::for_each(step.operands, add);
  }
  if (step.kind == StepKind::kLocal) {
    regions.push_back({buffers_.in_at, buffers_.in_elems});
    regions.push_back({buffers_.out_at, buffers_.out_elems});
  }
  return regions;
}

std::vector<Cell> RankMemory::cells_of(const Region& region) const {
  const auto begin = cells_.begin() + static_cast<std::ptrdiff_t>(region.at);
  return {begin, begin + static_cast<std::ptrdiff_t>(region.elems)};
}

std::vector<Cell> RankMemory::read(const Place& place) const {
  Region region = region_of(place);
  if (place.kind == Place::Kind::kScratch) {
    const auto held = holds_[static_cast<std::size_t>(place.index)];
    if (!held) throw PlanFault(text_of(place) + " is read unwritten");
    region.elems = *held;
  }
  std::vector<Cell> cells = cells_of(region);
  if (std::ranges::find(cells, kUnwritten, &Cell::term) != cells.end())
    throw PlanFault(text_of(place) + " is read unwritten");
  return cells;
}

void RankMemory::write(const Place& place, const std::vector<Cell>& cells) {
  const Region region = region_of(place);
  const bool is_scratch = place.kind == Place::Kind::kScratch;
  if (cells.size() > region.elems || (!is_scratch && cells.size() < region.elems)) {
    throw PlanFault(fmt::format("{} elements for {}, which has {}", cells.size(), text_of(place),
                                region.elems));
  }
  if (is_scratch) holds_[static_cast<std::size_t>(place.index)] = cells.size();
  std::ranges::copy(cells, cells_.begin() + static_cast<std::ptrdiff_t>(region.at));
}

void RankMemory::write_output(const std::vector<Cell>& cells) {
  if (cells.size() != buffers_.out_elems) {
    throw PlanFault(
        fmt::format("{} elements for an output of {}", cells.size(), buffers_.out_elems));
  }
  std::ranges::copy(cells, cells_.begin() + static_cast<std::ptrdiff_t>(buffers_.out_at));
}

std::string text_of(const Place& place) {
  const char* name = place.kind == Place::Kind::kIn    ? "in"
                     : place.kind == Place::Kind::kOut ? "out"
                                                       : "scratch";
  return fmt::format("{}[{}]", name, place.index);
}

}  // namespace treadle
