// Four levels, lower case, "treadle rank R level: key value ..." in one write to stderr.
//
// A Log is a value handed down; there is no global logger.
#pragma once
#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace treadle {

enum class LogLevel { kError, kWarn, kInfo, kDebug };

// Throws std::invalid_argument for anything but error, warn, info, debug.
LogLevel log_level_from(std::string_view name);

class Log {
 public:
  Log() = default;
  Log(LogLevel level, int rank) : level_(level), rank_(rank) {}

  template <typename... Args>
  void operator()(LogLevel level, fmt::format_string<Args...> text, Args&&... args) const {
    if (level <= level_) write(level, fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  void write(LogLevel level, std::string_view line) const;

  LogLevel level_ = LogLevel::kWarn;
  int rank_ = -1;
};

}  // namespace treadle
