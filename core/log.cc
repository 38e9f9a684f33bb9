#include "core/log.h"

#include <unistd.h>

#include <array>
#include <stdexcept>
#include <string>

namespace treadle {
namespace {
constexpr std::array<std::string_view, 4> kNames = {"error", "warn", "info", "debug"};
}  // namespace

LogLevel log_level_from(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<LogLevel>(i);
  }
  throw std::invalid_argument(
      fmt::format("log level '{}': expected error, warn, info or debug", name));
}

void Log::write(LogLevel level, std::string_view line) const {
  const std::string text =
      fmt::format("treadle rank {} {}: {}\n", rank_, kNames[static_cast<std::size_t>(level)], line);
  // A log line that cannot be written has nowhere to be reported.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace treadle
