// What a report says about the processor it was measured on.
#pragma once
#include <fstream>
#include <string>
#include <string_view>

namespace treadle {

// The value of the first line of /proc/cpuinfo with this key; empty if there is none.
inline std::string cpuinfo(std::string_view key) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    const auto value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

inline std::string processor_model() {
  const std::string model = cpuinfo("model name");
  return model.empty() ? "unknown processor" : model;
}

}  // namespace treadle
