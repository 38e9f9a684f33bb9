// What treadle-perf can measure: a table with one row per operation.
//
// Inputs and outputs are made of blocks of equal size. For the operations that spread or gather
// (all_gather, reduce_scatter, all_to_all) a size is that of all ranks' blocks together.
#pragma once
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "collectives/algorithms.h"
#include "collectives/communicator.h"

namespace treadle {

// Block `block` of the input of rank `rank`.
struct Source {
  int rank = 0;
  int block = 0;
};

struct OperationCall {
  Communicator& communicator;
  ConstBytes in;
  Bytes out;
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  CallOptions options;
};

// Where input and output share memory.
enum class InPlace {
  kNever,
  kWhole,       // they are the same
  kInInOut,     // the input is the rank's block of the output
  kOutInIn,     // the output is the rank's block of the input
  kInherently,  // they are always the same
};

struct MeasuredOperation {
  std::string_view name;
  std::optional<Collective> collective;  // whose algorithms can be asked for
  bool folds;                            // has a reduce operator
  bool shares;                           // a block is a rank's share of the size, else all of it
  InPlace in_place;
  int fewest_ranks;
  int (*in_blocks)(int rank, int ranks);
  int (*out_blocks)(int rank, int ranks);
  // What block `block` of the output is the fold of, in rank order; one source: a copy of it.
  std::vector<Source> (*sources)(int rank, int ranks, int block);
  double (*bus_factor)(int ranks);  // busbw = factor * algbw
  void (*run)(const OperationCall& call);
};

std::span<const MeasuredOperation> measured_operations();
const MeasuredOperation& measured_operation(std::string_view name);  // throws std::invalid_argument

}  // namespace treadle
