#include "bench/treadle-perf/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bench/treadle-perf/operations.h"
#include "collectives/selection.h"

namespace treadle {
namespace {

constexpr const char* kDescription =
    "Measures one operation over a range of sizes, and checks every result.\n"
    "Ranks come from --spawn N, or from torchrun, mpirun or another launcher that tells ranks by\n"
    "environment variables. Sizes take the suffixes K, M and G (1024, 1024^2, 1024^3).";

constexpr const char* kRendezvous =
    "where the ranks meet: HOST:PORT (rank 0 listens there) or file:DIRECTORY. Default under "
    "torchrun: MASTER_ADDR and the port after MASTER_PORT; under mpirun on one host: a directory "
    "named after the job";

std::vector<std::string> operation_names() {
  std::vector<std::string> names;
  for (const MeasuredOperation& row : measured_operations()) names.emplace_back(row.name);
  return names;
}

template <typename T>
using Choices = std::vector<std::pair<std::string, T>>;

// The values of an enumeration by name, in its order.
template <typename T>
Choices<T> named(int values) {
  Choices<T> choices;
  for (int i = 0; i < values; ++i) {
    choices.emplace_back(name_of(static_cast<T>(i)), static_cast<T>(i));
  }
  return choices;
}

// CLI11's own transformer prints an enumeration's values in the help text as characters.
template <typename T>
void add_choice(CLI::App& app, const std::string& name, T& value, const Choices<T>& choices,
                const std::string& text) {
  std::vector<std::string> names;
  std::string standard;
  for (const auto& [choice, meaning] : choices) {
    names.push_back(choice);
    if (meaning == value) standard = choice;
  }
  const auto set = [&value, choices](const std::string& wanted) {
    value = std::ranges::find(choices, wanted, &std::pair<std::string, T>::first)->second;
  };
  app.add_option_function<std::string>(name, set, text)
      ->check(CLI::IsMember(names))
      ->default_str(standard);
}

void add_size(CLI::App& app, const std::string& name, std::uint64_t& value,
              const std::string& text) {
  app.add_option(name, value, text)->transform(CLI::AsSizeValue(false))->capture_default_str();
}

// Combinations that no single option can refuse.
void check(const PerfOptions& options) {
  const MeasuredOperation& operation = measured_operation(options.operation);
  if (options.min_bytes > options.max_bytes) {
    throw std::invalid_argument("--min-bytes is above --max-bytes");
  }
  if (operation.folds && !supports(options.op, options.dtype)) {
    throw std::invalid_argument(fmt::format("--reduce-op {} has no meaning for --dtype {}",
                                            name_of(options.op), name_of(options.dtype)));
  }
  if (options.in_place && operation.in_place == InPlace::kNever) {
    throw std::invalid_argument(fmt::format("{} has no in-place form", operation.name));
  }
  if (options.algorithm.empty()) return;
  if (!operation.collective) {
    throw std::invalid_argument(fmt::format("{} has no algorithms to choose from", operation.name));
  }
  check_algorithm_name(*operation.collective, options.algorithm);
}

void add_options(CLI::App& app, PerfOptions& options) {
  app.add_option("--op", options.operation, "operation")
      ->check(CLI::IsMember(operation_names()))
      ->capture_default_str();
  add_size(app, "-b,--min-bytes", options.min_bytes, "smallest size");
  add_size(app, "-e,--max-bytes", options.max_bytes, "largest size");
  app.add_option("-f,--factor", options.factor, "from one size to the next")
      ->check(CLI::Range(2, 1 << 30))
      ->capture_default_str();
  app.add_option("-n,--iterations", options.iterations, "per size; default: by size")
      ->check(CLI::Range(1, 10'000'000));
  app.add_option("-w,--warmup", options.warmup, "iterations before them; default: a tenth")
      ->check(CLI::Range(0, 10'000'000));
  add_choice(app, "--dtype", options.dtype, named<DType>(kDTypes), "element type");
  add_choice(app, "--reduce-op", options.op, named<ReduceOp>(kReduceOps), "operator of reductions");
  app.add_option("--algorithm", options.algorithm, "by name, as treadle-info lists them");
  app.add_option("--transport", options.transport, "auto or tcp; default: TREADLE_TRANSPORT")
      ->check(CLI::IsMember({"auto", "tcp"}));
  app.add_flag("--in-place", options.in_place, "input and output share memory");
  add_choice(app, "--check", options.check, {{"on", true}, {"off", false}},
             "compare every result on every rank, outside of the timed part");
  app.add_flag("--json", options.json, "one object per line");
  app.add_option("--timeout", options.timeout_s, "seconds until an operation fails")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--spawn", options.spawn, "start this many ranks on this host")
      ->check(CLI::Range(1, 4096));
  app.add_option("--rendezvous", options.rendezvous, kRendezvous);
  app.set_version_flag("--version", TREADLE_VERSION);
}

}  // namespace

ParsedCommandLine parse_command_line(int argc, char** argv) {
  ParsedCommandLine parsed;
  CLI::App app(kDescription, "treadle-perf");
  add_options(app, parsed.options);
  try {
    app.parse(argc, argv);
    check(parsed.options);
  } catch (const CLI::ParseError& ending) {
    parsed.exit_code = app.exit(ending) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& complaint) {
    fmt::print(stderr, "treadle-perf: {}\n", complaint.what());
    parsed.exit_code = 2;
  }
  return parsed;
}

}  // namespace treadle
