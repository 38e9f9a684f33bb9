#include "core/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <optional>
#include <stdexcept>

#include "core/hash.h"

extern char** environ;

namespace treadle {
namespace {

using std::chrono::milliseconds;

struct Number {
  std::uint64_t value;
  std::string_view suffix;
};
// Nothing if `text` does not begin with a number that fits.
std::optional<Number> number_from(std::string_view text) {
  std::uint64_t value = 0;
  const char* text_end = text.data() + text.size();
  const auto [end, code] = std::from_chars(text.data(), text_end, value);
  if (code != std::errc{}) return std::nullopt;
  return Number{value, std::string_view(end, static_cast<std::size_t>(text_end - end))};
}

std::optional<std::uint64_t> size_from(std::string_view text) {
  const auto number = number_from(text);
  if (!number) return std::nullopt;
  const std::string_view suffix = number->suffix;
  const int shift = suffix.empty()                     ? 0
                    : suffix == "K" || suffix == "KiB" ? 10
                    : suffix == "M" || suffix == "MiB" ? 20
                    : suffix == "G" || suffix == "GiB" ? 30
                                                       : -1;
  if (shift < 0 || number->value > (UINT64_MAX >> shift)) return std::nullopt;
  return number->value << shift;
}

// No suffixes: "5M" would mean minutes to some.
std::optional<milliseconds> duration_from(std::string_view text) {
  constexpr std::uint64_t kLongestMs = 1ULL << 40;  // 34 years
  const auto number = number_from(text);
  if (!number || !number->suffix.empty() || number->value > kLongestMs) return std::nullopt;
  return milliseconds(number->value);
}

// One setting: how it is read into a Config and printed from one.
struct Row {
  std::string_view name;
  std::string_view unit;
  std::string_view meaning;
  bool must_agree;
  std::function<void(Config&, const std::string&)> set;
  std::function<std::string(const Config&)> get;
};

Row text(std::string_view name, std::string Config::*field, bool must_agree,
         std::string_view meaning) {
  return {name,
          "",
          meaning,
          must_agree,
          [field](Config& c, const std::string& value) { c.*field = value; },
          [field](const Config& c) { return c.*field; }};
}

Row choice(std::string_view name, std::string Config::*field, bool must_agree,
           std::vector<std::string> allowed, std::string_view meaning) {
  Row row = text(name, field, must_agree, meaning);
  row.set = [field, allowed = std::move(allowed)](Config& c, const std::string& value) {
    for (const auto& one : allowed) {
      if (one == value) {
        c.*field = value;
        return;
      }
    }
    throw std::invalid_argument(fmt::format("one of {}", fmt::join(allowed, ", ")));
  };
  return row;
}

Row bytes(std::string_view name, std::uint64_t Config::*field, std::uint64_t low,
          std::uint64_t high, std::string_view meaning) {
  return {name,
          "bytes",
          meaning,
          true,
          [=](Config& c, const std::string& value) {
            const auto size = size_from(value);
            if (!size || *size < low || *size > high) {
              throw std::invalid_argument(
                  fmt::format("a size from {} to {} bytes, optionally with K, M or G", low, high));
            }
            c.*field = *size;
          },
          [field](const Config& c) { return std::to_string(c.*field); }};
}

Row duration(std::string_view name, milliseconds Config::*field, bool must_agree,
             milliseconds lowest, std::string_view meaning) {
  return {name,
          "ms",
          meaning,
          must_agree,
          [=](Config& c, const std::string& value) {
            const auto duration = duration_from(value);
            if (!duration || *duration < lowest) {
              throw std::invalid_argument(
                  fmt::format("a whole number of milliseconds, at least {}", lowest.count()));
            }
            c.*field = *duration;
          },
          [field](const Config& c) { return std::to_string((c.*field).count()); }};
}

// To add a setting: a field in Config, one row here.
const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = {
      choice("TREADLE_LOG", &Config::log_level, false, {"error", "warn", "info", "debug"},
             "how much is written to stderr: error, warn, info or debug"),
      choice("TREADLE_TRANSPORT", &Config::transport, true, {"auto", "tcp"},
             "auto: shared memory on one host, tcp between hosts; tcp: tcp everywhere"),
      text("TREADLE_INTERFACE", &Config::interface, false,
           "network interfaces to use: names, addresses or CIDR blocks, comma-separated; a leading "
           "^ "
           "excludes instead; empty: all but loopback and link-local"),
      text("TREADLE_PORT_RANGE", &Config::port_range, false,
           "tcp ports to listen on, LOW-HIGH; empty: any free port"),
      text("TREADLE_HOST", &Config::host, false,
           "ranks share memory only with ranks of the same TREADLE_HOST on the same machine"),
      choice("TREADLE_KERNELS", &Config::kernels, false, {"auto", "portable", "avx2", "avx512"},
             "reduce kernels: auto, portable, avx2 or avx512"),
      text("TREADLE_ALLREDUCE", &Config::allreduce, true,
           "all-reduce algorithm: auto, or a name that treadle-info lists"),
      text("TREADLE_BROADCAST", &Config::broadcast, true,
           "broadcast algorithm: auto, or a name that treadle-info lists"),
      text("TREADLE_ALLGATHER", &Config::allgather, true,
           "all-gather algorithm: auto, or a name that treadle-info lists"),
      text("TREADLE_REDUCE_SCATTER", &Config::reduce_scatter, true,
           "reduce-scatter algorithm: auto, or a name that treadle-info lists"),
      duration("TREADLE_TIMEOUT", &Config::timeout, false, milliseconds(1),
               "deadline of an operation that is given none"),
      duration("TREADLE_HEARTBEAT", &Config::heartbeat, true, milliseconds(100),
               "a rank silent for twice this long is lost"),
      bytes("TREADLE_EAGER_BYTES", &Config::eager_bytes, 4096, 1 << 20,
            "payload a peer may send ahead of the matching call, per communicator and link"),
      bytes("TREADLE_SEGMENT_BYTES", &Config::segment_bytes, 64 << 10, 512 << 10,
            "messages are cut into segments of at most this size; an urgent one overtakes between"),
      bytes("TREADLE_WINDOW_BYTES", &Config::window_bytes, 64 << 10, 16 << 20,
            "shared-memory staging per rank and communicator, in each of two halves"),
  };
  return kRows;
}

// The variables of one launcher. A process has its rank from it if both of the first two are set.
struct Launcher {
  std::string_view name;
  std::string_view rank;
  std::string_view ranks;
  std::string_view local_rank;
  std::string_view local_ranks;
  std::array<std::string_view, 2> jobs;  // the first one that is set
};
constexpr std::array kLaunchers = {
    Launcher{"torchrun",
             "RANK",
             "WORLD_SIZE",
             "LOCAL_RANK",
             "LOCAL_WORLD_SIZE",
             {"TORCHELASTIC_RUN_ID", ""}},
    Launcher{"Open MPI",
             "OMPI_COMM_WORLD_RANK",
             "OMPI_COMM_WORLD_SIZE",
             "OMPI_COMM_WORLD_LOCAL_RANK",
             "OMPI_COMM_WORLD_LOCAL_SIZE",
             {"OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE"}},
    Launcher{
        "PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", {"PMI_JOBID", ""}},
};

using Variables = std::span<const std::pair<std::string, std::string>>;

const std::string* find(Variables variables, std::string_view name) {
  const auto found =
      std::ranges::find_if(variables, [&](const auto& v) { return v.first == name; });
  return found == variables.end() ? nullptr : &found->second;
}

int number_in(Variables variables, std::string_view name, int lowest, int highest, int otherwise) {
  const std::string* value = find(variables, name);
  if (value == nullptr) return otherwise;
  const auto number = number_from(*value);
  if (!number || !number->suffix.empty() || number->value < static_cast<std::uint64_t>(lowest) ||
      number->value > static_cast<std::uint64_t>(highest)) {
    throw std::invalid_argument(
        fmt::format("{}={}: expected a whole number from {} to {}", name, *value, lowest, highest));
  }
  return static_cast<int>(number->value);
}

std::vector<std::pair<std::string, std::string>> whole_environment() {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line(*entry);
    const auto equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string name(line.substr(0, equals));
    // Asked for by name, so that of two entries of one name the one that getenv gives counts.
    if (const char* value = std::getenv(name.c_str())) variables.emplace_back(name, value);
  }
  return variables;
}

}  // namespace

Config config_from(std::span<const std::pair<std::string, std::string>> variables) {
  Config config;
  for (const auto& [name, value] : variables) {
    if (!name.starts_with("TREADLE_")) continue;
    // Names that belong to the Python package, the build or the tools, not to the core.
    if (name == "TREADLE_PYTHON" || name == "TREADLE_VENV") continue;
    const Row* found = nullptr;
    for (const Row& row : rows()) {
      if (row.name == name) found = &row;
    }
    if (found == nullptr) {
      throw std::invalid_argument(
          fmt::format("unknown setting {}={}; run treadle-info --config for the list of settings",
                      name, value));
    }
    try {
      found->set(config, value);
    } catch (const std::invalid_argument& expected) {
      throw std::invalid_argument(fmt::format("{}={}: expected {}", name, value, expected.what()));
    }
  }
  return config;
}

Config config_from_environment() { return config_from(whole_environment()); }

std::vector<Setting> settings_of(const Config& config) {
  const Config standard;
  std::vector<Setting> settings;
  for (const Row& row : rows()) {
    settings.push_back({std::string(row.name), row.get(config), row.get(standard),
                        std::string(row.unit), std::string(row.meaning), row.must_agree});
  }
  return settings;
}

std::uint64_t agreed_hash(const Config& config) {
  Hash hash;
  for (const Setting& setting : settings_of(config)) {
    if (setting.must_agree) hash.add(setting.name).add("=").add(setting.value).add("\n");
  }
  return hash.value();
}

LaunchEnvironment launch_environment_from(Variables variables) {
  constexpr int kMost = 1 << 24;
  for (const Launcher& launcher : kLaunchers) {
    if (find(variables, launcher.rank) == nullptr || find(variables, launcher.ranks) == nullptr) {
      continue;
    }
    LaunchEnvironment launch;
    launch.launcher = launcher.name;
    launch.ranks = number_in(variables, launcher.ranks, 1, kMost, 1);
    launch.rank = number_in(variables, launcher.rank, 0, launch.ranks - 1, 0);
    launch.local_rank = number_in(variables, launcher.local_rank, 0, kMost, 0);
    launch.local_ranks = number_in(variables, launcher.local_ranks, 1, kMost, 0);
    for (const std::string_view name : launcher.jobs) {
      const std::string* job = find(variables, name);
      if (job != nullptr && launch.job.empty()) launch.job = *job;
    }
    if (launcher.name == "torchrun") {
      if (const std::string* address = find(variables, "MASTER_ADDR")) {
        launch.master_address = *address;
      }
      launch.master_port = number_in(variables, "MASTER_PORT", 1, 65535, 0);
    }
    return launch;
  }
  return {};
}

LaunchEnvironment launch_environment() { return launch_environment_from(whole_environment()); }

}  // namespace treadle
