#include "bench/treadle-info/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

namespace treadle {
namespace {

using Json = nlohmann::ordered_json;

// Rows of cells as columns of equal width; the last column is as long as it likes.
void print_columns(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line = " ";
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      line += fmt::format(" {:<{}} ", row[i], widths[i]);
    }
    fmt::print("{} {}\n", line, row.back());
  }
}

void print_host(const Facts& facts) {
  fmt::print("treadle {}\n\nHost\n", facts.version);
  std::vector<std::string> kernels;
  for (const KernelFact& kernel : facts.kernels) {
    kernels.push_back(fmt::format("{}{}", kernel.name,
                                  kernel.is_chosen   ? " (chosen)"
                                  : kernel.runs_here ? ""
                                                     : " (cannot run here)"));
  }
  print_columns({{"host id", facts.host_id},
                 {"processor", facts.processor},
                 {"CPUs allowed", std::to_string(facts.allowed_cpus)},
                 {"CPU features", fmt::format("{}", fmt::join(facts.cpu_features, " "))},
                 {"reduce kernels", fmt::format("{}", fmt::join(kernels, ", "))}});
}

void print_transports(const Facts& facts) {
  fmt::print("\nTransports, best first\n");
  std::vector<std::vector<std::string>> rows;
  for (const TransportFact& t : facts.transports) {
    rows.push_back({t.name, t.summary, (t.is_usable ? "yes: " : "no: ") + t.reason});
  }
  print_columns(rows);
}

void print_interfaces(const Facts& facts) {
  fmt::print("\nNetwork interfaces (TREADLE_INTERFACE)\n");
  if (facts.interfaces.empty()) return fmt::print("  none\n");
  std::vector<std::vector<std::string>> rows;
  for (const InterfaceFact& i : facts.interfaces) {
    rows.push_back({i.name, i.address,
                    i.order > 0     ? fmt::format("published, number {}", i.order)
                    : i.is_loopback ? "not published: loopback"
                                    : "not published"});
  }
  print_columns(rows);
}

void print_algorithms(const Facts& facts) {
  fmt::print("\nAlgorithms\n");
  std::vector<std::vector<std::string>> rows;
  for (const AlgorithmFact& a : facts.algorithms) {
    rows.push_back({a.collective, a.name, a.order, a.summary});
  }
  print_columns(rows);
}

}  // namespace

void print_settings(std::span<const Setting> settings) {
  std::vector<std::vector<std::string>> rows = {{"setting", "value", "default", "unit", "meaning"}};
  const auto shown = [](const std::string& value) { return value.empty() ? "-" : value; };
  for (const Setting& s : settings) {
    rows.push_back({s.name, shown(s.value), shown(s.standard), shown(s.unit),
                    s.meaning + (s.must_agree ? " (the same on all ranks)" : "")});
  }
  print_columns(rows);
}

void print_text(const Facts& facts) {
  print_host(facts);
  print_transports(facts);
  print_interfaces(facts);
  print_algorithms(facts);
  fmt::print("\nSettings that are not at their defaults (all of them: treadle-info --config)\n");
  std::vector<Setting> changed;
  std::ranges::copy_if(facts.settings, std::back_inserter(changed),
                       [](const Setting& s) { return s.value != s.standard; });
  if (changed.empty()) return fmt::print("  none\n");
  print_settings(changed);
}

void print_json(const Facts& facts) {
  Json out{{"version", facts.version},
           {"host_id", facts.host_id},
           {"processor", facts.processor},
           {"allowed_cpus", facts.allowed_cpus},
           {"cpu_features", facts.cpu_features}};
  for (const KernelFact& k : facts.kernels) {
    out["kernels"].push_back(
        {{"name", k.name}, {"runs_here", k.runs_here}, {"chosen", k.is_chosen}});
  }
  for (const TransportFact& t : facts.transports) {
    out["transports"].push_back(
        {{"name", t.name}, {"summary", t.summary}, {"usable", t.is_usable}, {"reason", t.reason}});
  }
  out["interfaces"] = Json::array();
  for (const InterfaceFact& i : facts.interfaces) {
    out["interfaces"].push_back({{"name", i.name},
                                 {"address", i.address},
                                 {"loopback", i.is_loopback},
                                 {"published", i.order > 0},
                                 {"order", i.order}});
  }
  for (const AlgorithmFact& a : facts.algorithms) {
    out["algorithms"].push_back({{"collective", a.collective},
                                 {"name", a.name},
                                 {"summary", a.summary},
                                 {"order", a.order}});
  }
  for (const Setting& s : facts.settings) {
    out["settings"].push_back({{"name", s.name},
                               {"value", s.value},
                               {"default", s.standard},
                               {"unit", s.unit},
                               {"meaning", s.meaning},
                               {"must_agree", s.must_agree}});
  }
  fmt::print("{}\n", out.dump(2));
}

}  // namespace treadle
