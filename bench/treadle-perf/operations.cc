#include "bench/treadle-perf/operations.h"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace treadle {
namespace {

constexpr int kRoot = 0;
constexpr std::int64_t kTag = 0;

int none(int, int) { return 0; }
int one(int, int) { return 1; }
int one_per_rank(int, int ranks) { return ranks; }
int one_on_root(int rank, int) { return rank == kRoot ? 1 : 0; }

std::vector<Source> block_of_all(int ranks, int block) {
  std::vector<Source> sources;
  for (int rank = 0; rank < ranks; ++rank) sources.push_back({rank, block});
  return sources;
}
std::vector<Source> fold_of_all(int, int ranks, int block) { return block_of_all(ranks, block); }
std::vector<Source> fold_of_my_blocks(int rank, int ranks, int) {
  return block_of_all(ranks, rank);
}
std::vector<Source> roots_input(int, int, int) { return {{kRoot, 0}}; }
std::vector<Source> input_of_block_number(int, int, int block) { return {{block, 0}}; }
std::vector<Source> my_block_of_block_number(int rank, int, int block) { return {{block, rank}}; }
std::vector<Source> left_neighbours_input(int rank, int ranks, int) {
  return {{(rank + ranks - 1) % ranks, 0}};
}
std::vector<Source> nothing(int, int, int) { return {}; }

double factor_one(int) { return 1; }
double factor_of_spreading(int ranks) { return (ranks - 1.0) / ranks; }
double factor_of_all_reduce(int ranks) { return 2 * (ranks - 1.0) / ranks; }

void run_all_reduce(const OperationCall& c) {
  c.communicator.all_reduce(c.in, c.out, c.dtype, c.op, c.options).wait();
}
void run_broadcast(const OperationCall& c) {
  c.communicator.broadcast(c.out, c.dtype, kRoot, c.options).wait();
}
void run_all_gather(const OperationCall& c) {
  c.communicator.all_gather(c.in, c.out, c.dtype, c.options).wait();
}
void run_reduce_scatter(const OperationCall& c) {
  c.communicator.reduce_scatter(c.in, c.out, c.dtype, c.op, c.options).wait();
}
void run_reduce(const OperationCall& c) {
  c.communicator.reduce(c.in, c.out, c.dtype, c.op, kRoot, c.options).wait();
}
void run_all_to_all(const OperationCall& c) {
  c.communicator.all_to_all(c.in, c.out, c.dtype, c.options).wait();
}
void run_barrier(const OperationCall& c) { c.communicator.barrier(c.options).wait(); }

// Every rank sends to its right neighbour while it receives from its left one.
void run_send_recv(const OperationCall& c) {
  const int rank = c.communicator.rank();
  const int ranks = c.communicator.size();
  CallOptions options = c.options;
  options.blocking = false;  // two operations at once
  const Work recv = c.communicator.recv(c.out, c.dtype, (rank + ranks - 1) % ranks, kTag, options);
  const Work send = c.communicator.send(c.in, c.dtype, (rank + 1) % ranks, kTag, options);
  recv.wait();
  send.wait();
}

// name, collective, folds, shares, in place, fewest ranks, input, output, sources, factor, run
constexpr std::array kOperations = {
    MeasuredOperation{"all_reduce", Collective::kAllReduce, true, false, InPlace::kWhole, 1, one,
                      one, fold_of_all, factor_of_all_reduce, run_all_reduce},
    MeasuredOperation{"broadcast", Collective::kBroadcast, false, false, InPlace::kInherently, 1,
                      one_on_root, one, roots_input, factor_one, run_broadcast},
    MeasuredOperation{"all_gather", Collective::kAllGather, false, true, InPlace::kInInOut, 1, one,
                      one_per_rank, input_of_block_number, factor_of_spreading, run_all_gather},
    MeasuredOperation{"reduce_scatter", Collective::kReduceScatter, true, true, InPlace::kOutInIn,
                      1, one_per_rank, one, fold_of_my_blocks, factor_of_spreading,
                      run_reduce_scatter},
    MeasuredOperation{"reduce", Collective::kReduce, true, false, InPlace::kWhole, 1, one,
                      one_on_root, fold_of_all, factor_one, run_reduce},
    MeasuredOperation{"all_to_all", Collective::kAllToAll, false, true, InPlace::kNever, 1,
                      one_per_rank, one_per_rank, my_block_of_block_number, factor_of_spreading,
                      run_all_to_all},
    MeasuredOperation{"barrier", Collective::kBarrier, false, false, InPlace::kNever, 1, none, none,
                      nothing, factor_one, run_barrier},
    MeasuredOperation{"send_recv", std::nullopt, false, false, InPlace::kNever, 2, one, one,
                      left_neighbours_input, factor_one, run_send_recv},
};

}  // namespace

std::span<const MeasuredOperation> measured_operations() { return kOperations; }

const MeasuredOperation& measured_operation(std::string_view name) {
  const auto row = std::ranges::find(kOperations, name, &MeasuredOperation::name);
  if (row == kOperations.end()) {
    throw std::invalid_argument(fmt::format("operation '{}' does not exist", name));
  }
  return *row;
}

}  // namespace treadle
