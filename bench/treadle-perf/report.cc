#include "bench/treadle-perf/report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/processor.h"
#include "bench/treadle-perf/operations.h"
#include "core/processor.h"

namespace treadle {
namespace {

double busbw_of(const Measurement& found, const std::string& operation, int ranks) {
  return found.algbw_gbps() * measured_operation(operation).bus_factor(ranks);
}

double with_places(double value, int places) {
  const double scale = std::pow(10.0, places);
  return std::round(value * scale) / scale;
}

}  // namespace

std::string transports_in(const std::vector<std::string>& links) {
  std::set<std::string> names;
  for (const std::string& link : links) {  // "rank 1: tcp 10.0.0.2:41233", "rank 2: not connected"
    const auto begin = link.find(": ") + 2;
    const std::string name = link.substr(begin, link.find(' ', begin) - begin);
    if (name != "not") names.insert(name);
  }
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, "+"));
}

void Report::add(const Measurement& found, const std::string& transport) {
  const double busbw = busbw_of(found, options_.operation, ranks_);
  if (options_.json) {
    nlohmann::ordered_json line;
    line["op"] = options_.operation;
    line["bytes"] = found.bytes;
    line["ranks"] = ranks_;
    line["transport"] = transport;
    line["peer"] = "treadle";
    line["p50_us"] = with_places(found.p50_us, 3);
    line["p99_us"] = with_places(found.p99_us, 3);
    line["busbw_gbps"] = with_places(busbw, 6);
    line["correct"] = nullptr;
    if (found.correct) line["correct"] = *found.correct;
    fmt::print("{}\n", line.dump());
  } else {
    if (!has_title_) print_title(transport);
    has_title_ = true;
    fmt::print("{:>12} {:>8} {:>12.2f} {:>12.2f} {:>10.3f} {:>10.3f} {:>12.2f}  {}\n", found.bytes,
               found.iterations, found.p50_us, found.p99_us, found.algbw_gbps(), busbw,
               found.cpu_us,
               !found.correct   ? "-"
               : *found.correct ? "yes"
                                : "NO");
  }
  std::fflush(stdout);
}

void Report::print_title(const std::string& transport) const {
  const MeasuredOperation& operation = measured_operation(options_.operation);
  fmt::print("treadle-perf {}: {}{}, {}{}, {}, {}\n", TREADLE_VERSION, options_.operation,
             options_.in_place ? " in place" : "", name_of(options_.dtype),
             operation.folds ? fmt::format(" {}", name_of(options_.op)) : "",
             ranks_ == 1 ? "1 rank" : fmt::format("{} ranks", ranks_), transport);
  fmt::print(
      "{}, {} CPUs here; bandwidths from p50, 1 GB/s = 10^9 bytes per second; cpu: all ranks\n",
      processor_model(), allowed_cpus());
  fmt::print("{:>12} {:>8} {:>12} {:>12} {:>10} {:>10} {:>12}  {}\n", "bytes", "count", "p50 us",
             "p99 us", "algbw GB/s", "busbw GB/s", "cpu us/op", "correct");
}

}  // namespace treadle
