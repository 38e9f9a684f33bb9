// What inputs contain, and what outputs must then contain, as one period that repeats.
//
// Values are small whole numbers, so that every order of additions gives the same bytes in every
// element type.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "bench/treadle-perf/operations.h"
#include "core/bytes.h"
#include "core/dtype.h"

namespace treadle {

// A prime, so that a piece of a result that lies in a wrong place does not look right.
inline constexpr std::size_t kPeriodElems = 251;

// premul_sum uses this factor on every rank: exact in every type.
inline constexpr double kPremulFactor = 0.5;

struct Pattern {
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  int ranks = 1;
  std::size_t elems = kPeriodElems;  // of a period; fewer where a block has fewer

  // `copy` tells apart the buffers that are used in turn.
  std::vector<std::byte> input(Source source, std::size_t copy) const;
  std::vector<std::byte> output(std::span<const Source> sources, std::size_t copy) const;
};

void fill(Bytes region, ConstBytes period);
// Offset of the first wrong byte.
std::optional<std::size_t> first_difference(ConstBytes region, ConstBytes period);

}  // namespace treadle
