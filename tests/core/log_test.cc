#include "core/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <stdexcept>
#include <string>

namespace treadle {
namespace {

// What `body` writes to stderr, by way of a pipe; it must fit into one.
std::string stderr_of(auto&& body) {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe(ends.data()), 0);
  const int before = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  close(ends[1]);
  body();
  dup2(before, STDERR_FILENO);
  close(before);
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; (got = read(ends[0], part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  close(ends[0]);
  return text;
}

TEST(LogTest, LineHasRankLevelAndText) {
  const Log log(LogLevel::kInfo, 3);
  EXPECT_EQ(stderr_of([&] { log(LogLevel::kInfo, "peer {} bytes {}", 1, 64); }),
            "treadle rank 3 info: peer 1 bytes 64\n");
}

TEST(LogTest, WritesItsLevelAndAboveOnly) {
  const std::array levels = {LogLevel::kError, LogLevel::kWarn, LogLevel::kInfo, LogLevel::kDebug};
  for (const LogLevel allowed : levels) {
    const Log log(allowed, 0);
    for (const LogLevel level : levels) {
      EXPECT_EQ(stderr_of([&] { log(level, "x"); }).empty(), level > allowed);
    }
  }
}

TEST(LogTest, WarnsByDefault) {
  const Log log;
  EXPECT_EQ(stderr_of([&] { log(LogLevel::kWarn, "slow"); }), "treadle rank -1 warn: slow\n");
  EXPECT_EQ(stderr_of([&] { log(LogLevel::kInfo, "fine"); }), "");
}

TEST(LogLevelTest, NamesAreReadAndOthersRefused) {
  EXPECT_EQ(log_level_from("error"), LogLevel::kError);
  EXPECT_EQ(log_level_from("warn"), LogLevel::kWarn);
  EXPECT_EQ(log_level_from("info"), LogLevel::kInfo);
  EXPECT_EQ(log_level_from("debug"), LogLevel::kDebug);
  for (const char* name : {"", "WARN", "warning", "trace"}) {
    EXPECT_THROW(log_level_from(name), std::invalid_argument) << name;
  }
}

}  // namespace
}  // namespace treadle
