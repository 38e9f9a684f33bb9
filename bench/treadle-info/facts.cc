#include "bench/treadle-info/facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <stdexcept>

#include "bench/processor.h"
#include "collectives/algorithms.h"
#include "collectives/selection.h"
#include "core/kernels/reduce.h"
#include "core/processor.h"
#include "transport/engine.h"
#include "transport/interfaces.h"
#include "transport/transport.h"

namespace treadle {
namespace {

std::vector<std::string> cpu_features() {
  constexpr std::array<std::string_view, 11> kOfInterest = {
      "sse4_2",   "avx",      "f16c",     "fma",         "avx2",       "avx512f",
      "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "avx512_fp16"};
  std::istringstream flags(cpuinfo("flags"));
  std::vector<std::string> found;
  for (std::string flag; flags >> flag;) {
    if (std::ranges::find(kOfInterest, flag) != kOfInterest.end()) found.push_back(flag);
  }
  return found;
}

std::vector<KernelFact> kernels(const Config& config) {
  const std::string_view chosen = choose_fold(config.kernels).name;
  std::vector<KernelFact> facts;
  for (const FoldVersion& version : fold_versions()) {
    facts.push_back({std::string(version.name), version.runs_here(), version.name == chosen});
  }
  return facts;
}

TransportFact transport_fact(const TransportRow& row, const TransportEnvironment& environment) {
  TransportFact fact{
      .name = std::string(row.name), .summary = std::string(row.summary), .reason = {}};
  try {
    fact.reason = row.make(environment)->unusable_because();
  } catch (const Error& error) {
    fact.reason = error.what();
  }
  const std::string& wanted = environment.config.transport;
  if (fact.reason.empty() && wanted != "auto" && wanted != row.name) {
    fact.reason = fmt::format("TREADLE_TRANSPORT={}", wanted);
  }
  fact.is_usable = fact.reason.empty();
  if (fact.is_usable) {
    fact.reason = row.same_host_only
                      ? "used between ranks with the same host id, unless passing memory fails"
                      : "used between ranks that share nothing better";
  }
  return fact;
}

std::vector<TransportFact> transports(const Config& config) {
  Engine engine({.start_thread = false});
  const TransportEnvironment environment{engine, config, Log(LogLevel::kError, 0)};
  std::vector<TransportFact> facts;
  for (const TransportRow& row : standard_transports()) {
    engine.run_on_loop([&] { facts.push_back(transport_fact(row, environment)); });
  }
  return facts;
}

std::vector<InterfaceFact> interfaces(const Config& config) {
  const auto all = list_interfaces();
  const auto chosen = choose_interfaces(all, config.interface);
  parse_port_range(config.port_range);  // throws where it makes no sense
  std::vector<InterfaceFact> facts;
  for (const Interface& interface : all) {
    const auto place = std::ranges::find(chosen, interface);
    facts.push_back(
        {.name = interface.name,
         .address = fmt::format("{}/{}", to_text(interface.address), interface.address.prefix_bits),
         .is_loopback = interface.is_loopback,
         .order = place == chosen.end() ? 0 : static_cast<int>(place - chosen.begin()) + 1});
  }
  return facts;
}

std::string_view text_of(OrderClass order) {
  switch (order) {
    case OrderClass::kNone:
      return "adds nothing";
    case OrderClass::kRankOrder:
      return "rank order";
    case OrderClass::kRing:
      return "ring order";
    case OrderClass::kTree:
      return "tree order";
  }
  return "";
}

std::vector<AlgorithmFact> algorithms() {
  std::vector<AlgorithmFact> facts;
  for (int i = 0; i < kCollectives; ++i) {
    const auto collective = static_cast<Collective>(i);
    for (const Algorithm& row : algorithms_of(collective)) {
      facts.push_back({std::string(name_of(collective)), std::string(row.name),
                       std::string(row.summary), std::string(text_of(row.order))});
    }
  }
  return facts;
}

}  // namespace

Facts gather_facts(const Config& config) {
  check_algorithm_names(config);
  return {.version = TREADLE_VERSION,
          .host_id = fmt::format("{:016x}", this_host_id(config)),
          .processor = processor_model(),
          .allowed_cpus = allowed_cpus(),
          .cpu_features = cpu_features(),
          .kernels = kernels(config),
          .transports = transports(config),
          .interfaces = interfaces(config),
          .algorithms = algorithms(),
          .settings = settings_of(config)};
}

}  // namespace treadle
