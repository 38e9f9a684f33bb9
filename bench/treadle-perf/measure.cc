#include "bench/treadle-perf/measure.h"

#include <time.h>

#include <algorithm>
#include <cmath>

#include "bench/treadle-perf/buffers.h"

namespace treadle {
namespace {

// As many as move about 64 MiB, within limits.
int iterations_for(std::uint64_t bytes) {
  constexpr std::uint64_t kMovedBytes = 64 << 20;
  return static_cast<int>(std::clamp<std::uint64_t>(kMovedBytes / (bytes + 1), 10, 2000));
}

double process_cpu_us() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) * 1e6 + static_cast<double>(used.tv_nsec) / 1e3;
}

CallOptions blocking() {
  CallOptions options;
  options.blocking = true;
  return options;
}

void reduce_in_place(Communicator& communicator, std::span<double> values, ReduceOp op) {
  const Bytes bytes = std::as_writable_bytes(values);
  communicator.all_reduce(bytes, bytes, DType::kF64, op, blocking()).wait();
}

class Run {
 public:
  Run(Communicator& communicator, const PerfOptions& options, std::uint64_t bytes, int iterations)
      : communicator_(communicator),
        options_(options),
        operation_(measured_operation(options.operation)),
        buffers_(operation_, options,
                 {.rank = communicator.rank(),
                  .ranks = communicator.size(),
                  .block_bytes = static_cast<std::size_t>(bytes) /
                                 (operation_.shares ? communicator.size() : 1),
                  .most_copies = iterations}) {
    call_options_.algorithm = options.algorithm;
    if (options.op == ReduceOp::kPremulSum) call_options_.premul_factor = kPremulFactor;
  }

  void warm_up(int iterations) {
    buffers_.prepare();
    for (int i = 0; i < iterations; ++i) run_once(i % buffers_.copies());
  }

  void time(int iterations) {
    while (iterations > 0) {
      const int now = std::min(iterations, buffers_.copies());
      time_pass(now);
      iterations -= now;
    }
  }

  Measurement result(std::uint64_t bytes) {
    // One more value travels with the times: whether any rank has a complaint.
    times_us_.push_back(complaint_ ? 1.0 : 0.0);
    reduce_in_place(communicator_, times_us_, ReduceOp::kMax);
    const bool is_wrong = times_us_.back() != 0;
    times_us_.pop_back();
    reduce_in_place(communicator_, std::span(&cpu_us_, 1), ReduceOp::kSum);
    Measurement found{
        .bytes = bytes, .iterations = static_cast<int>(times_us_.size()), .correct = {}};
    found.p50_us = percentile(times_us_, 0.50);
    found.p99_us = percentile(times_us_, 0.99);
    found.cpu_us = cpu_us_ / found.iterations;
    if (options_.check) found.correct = !is_wrong;
    return found;
  }

 private:
  void run_once(int copy) {
    operation_.run({communicator_, buffers_.in(copy), buffers_.out(copy), options_.dtype,
                    options_.op, call_options_});
  }

  void time_pass(int iterations) {
    buffers_.prepare();
    communicator_.barrier(blocking()).wait();
    const double cpu_before = process_cpu_us();
    for (int copy = 0; copy < iterations; ++copy) {
      const auto begin = Clock::now();
      run_once(copy);
      const std::chrono::duration<double, std::micro> taken = Clock::now() - begin;
      times_us_.push_back(taken.count());
    }
    cpu_us_ += process_cpu_us() - cpu_before;
    if (options_.check && !complaint_) check(iterations);
  }

  void check(int iterations) {
    complaint_ = buffers_.complaint(iterations);
    if (!complaint_) return;
    fmt::print(stderr, "treadle-perf: rank {}: wrong result of {}: {}\n", communicator_.rank(),
               operation_.name, *complaint_);
  }

  Communicator& communicator_;
  const PerfOptions& options_;
  const MeasuredOperation& operation_;
  Buffers buffers_;
  CallOptions call_options_ = blocking();
  std::vector<double> times_us_;
  double cpu_us_ = 0;
  std::optional<std::string> complaint_;
};

}  // namespace

std::vector<std::uint64_t> sizes_of(const PerfOptions& options, int ranks) {
  const MeasuredOperation& operation = measured_operation(options.operation);
  if (operation.in_blocks(0, ranks) == 0) return {0};
  const std::uint64_t unit =
      size_of(options.dtype) * static_cast<std::uint64_t>(operation.shares ? ranks : 1);
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t bytes = options.min_bytes; bytes <= options.max_bytes;) {
    const std::uint64_t whole = (bytes + unit - 1) / unit * unit;
    if (sizes.empty() || sizes.back() != whole) sizes.push_back(whole);
    const auto factor = static_cast<std::uint64_t>(options.factor);
    if (bytes > options.max_bytes / factor) break;
    bytes = bytes == 0 ? unit : bytes * factor;
  }
  return sizes;
}

Measurement measure(Communicator& communicator, const PerfOptions& options, std::uint64_t bytes) {
  const int iterations = options.iterations > 0 ? options.iterations : iterations_for(bytes);
  Run run(communicator, options, bytes, iterations);
  run.warm_up(options.warmup >= 0 ? options.warmup : std::max(2, iterations / 10));
  run.time(iterations);
  return run.result(bytes);
}

double percentile(std::span<double> values, double share) {
  std::ranges::sort(values);
  const auto wanted = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(wanted, 1.0)) - 1];
}

}  // namespace treadle
