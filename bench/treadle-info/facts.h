// What treadle-info tells, gathered: this host, this build and the settings in force.
#pragma once
#include <string>
#include <vector>

#include "core/config.h"

namespace treadle {

struct KernelFact {
  std::string name;
  bool runs_here = false;
  bool is_chosen = false;
};

struct TransportFact {
  std::string name;
  std::string summary;
  bool is_usable = false;
  std::string reason;  // when it is used, or why it cannot be
};

struct InterfaceFact {
  std::string name;
  std::string address;  // "10.0.0.2/24"
  bool is_loopback = false;
  int order = 0;  // peers try 1 first; 0: not used
};

struct AlgorithmFact {
  std::string collective;
  std::string name;
  std::string summary;
  std::string order;  // how its additions associate
};

struct Facts {
  std::string version;
  std::string host_id;
  std::string processor;
  int allowed_cpus = 1;
  std::vector<std::string> cpu_features;  // those that kernels may use
  std::vector<KernelFact> kernels;        // fastest first
  std::vector<TransportFact> transports;  // best first
  std::vector<InterfaceFact> interfaces;
  std::vector<AlgorithmFact> algorithms;
  std::vector<Setting> settings;
};

// Throws std::invalid_argument for a setting that makes no sense on this host.
Facts gather_facts(const Config& config);

}  // namespace treadle
