// treadle-perf: how fast a collective runs between these processes, with every result checked.
//
// Exit codes: 0 all right, 1 a wrong result or a failure, 2 a bad command line or setting.
#include <fmt/format.h>

#include <exception>
#include <stdexcept>

#include "bench/treadle-perf/launch.h"
#include "bench/treadle-perf/measure.h"
#include "bench/treadle-perf/options.h"
#include "bench/treadle-perf/report.h"
#include "bench/treadle-perf/spawn.h"
#include "collectives/communicator.h"
#include "core/config.h"

namespace {

using namespace treadle;

// Returns whether all results were right.
bool measure_all(const PerfOptions& options, const Config& config, const RankPlace& place) {
  const milliseconds timeout = std::chrono::seconds(options.timeout_s);
  const auto context = Context::create({.rank = place.rank,
                                        .ranks = place.ranks,
                                        .store = store_of(place, deadline_after(timeout)),
                                        .config = config,
                                        .transports = {}});
  Communicator communicator =
      context->communicator({.name = "treadle-perf", .ranks = {}, .timeout = timeout});
  communicator.barrier().wait();
  clean_up(place);  // all ranks have met
  Report report(options, place.ranks);
  bool all_right = true;
  for (const std::uint64_t bytes : sizes_of(options, place.ranks)) {
    const Measurement found = measure(communicator, options, bytes);
    all_right = all_right && found.correct.value_or(true);
    if (place.rank == 0) report.add(found, transports_in(context->links()));
  }
  communicator.barrier().wait();  // nobody leaves while rank 0 still looks at its links
  communicator.shutdown();
  return all_right;
}

int run_rank(const PerfOptions& options, const Config& config, const RankPlace& place) {
  try {
    if (place.ranks < measured_operation(options.operation).fewest_ranks) {
      throw std::invalid_argument(fmt::format("{} needs at least 2 ranks", options.operation));
    }
    return measure_all(options, config, place) ? 0 : 1;
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "treadle-perf: rank {}: {}\n", place.rank, error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "treadle-perf: rank {}: {}\n", place.rank, error.what());
    return 1;
  }
}

int run(const PerfOptions& options) {
  Config config = config_from_environment();
  if (!options.transport.empty()) config.transport = options.transport;
  if (options.spawn == 0) {
    return run_rank(options, config, place_from(launch_environment(), options.rendezvous));
  }
  return spawn_ranks(options.spawn,
                     [&](const RankPlace& place) { return run_rank(options, config, place); });
}

}  // namespace

int main(int argc, char** argv) {
  const ParsedCommandLine parsed = parse_command_line(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  try {
    return run(parsed.options);
  } catch (const std::invalid_argument& error) {
    fmt::print(stderr, "treadle-perf: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "treadle-perf: {}\n", error.what());
    return 1;
  }
}
