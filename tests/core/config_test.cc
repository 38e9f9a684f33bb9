#include "core/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>

namespace treadle {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

using Variables = std::vector<std::pair<std::string, std::string>>;

Config with(std::string name, std::string value) {
  return config_from(Variables{{std::move(name), std::move(value)}});
}

std::string refusal_of(const std::string& name, const std::string& value) {
  try {
    with(name, value);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  ADD_FAILURE() << name << "=" << value << " was accepted";
  return "";
}

// A value other than the default for every setting; a new one needs a line here.
const std::map<std::string, std::string>& other_values() {
  static const std::map<std::string, std::string> kValues = {
      {"TREADLE_LOG", "debug"},
      {"TREADLE_TRANSPORT", "tcp"},
      {"TREADLE_INTERFACE", "eth0"},
      {"TREADLE_PORT_RANGE", "2000-3000"},
      {"TREADLE_HOST", "left"},
      {"TREADLE_KERNELS", "portable"},
      {"TREADLE_ALLREDUCE", "ring"},
      {"TREADLE_BROADCAST", "linear"},
      {"TREADLE_ALLGATHER", "direct"},
      {"TREADLE_REDUCE_SCATTER", "owner"},
      {"TREADLE_TIMEOUT", "1234"},
      {"TREADLE_HEARTBEAT", "500"},
      {"TREADLE_EAGER_BYTES", "8192"},
      {"TREADLE_SEGMENT_BYTES", "131072"},
      {"TREADLE_WINDOW_BYTES", "1048576"},
  };
  return kValues;
}

TEST(ConfigTest, NothingSetGivesTheDefaults) {
  const Config config = config_from({});
  EXPECT_EQ(config.timeout, std::chrono::minutes(30));
  EXPECT_EQ(config.heartbeat, milliseconds(4000));
  EXPECT_EQ(config.segment_bytes, 261120U);
  for (const Setting& setting : settings_of(config)) {
    EXPECT_EQ(setting.value, setting.standard) << setting.name;
  }
}

TEST(ConfigTest, EverySettingCanBeSetAndIsPrintedAsSet) {
  std::set<std::string> seen;
  for (const Setting& setting : settings_of(Config{})) {
    ASSERT_TRUE(other_values().contains(setting.name)) << "no test value for " << setting.name;
    seen.insert(setting.name);
    const std::string& value = other_values().at(setting.name);
    for (const Setting& after : settings_of(with(setting.name, value))) {
      EXPECT_EQ(after.value, after.name == setting.name ? value : after.standard) << after.name;
    }
  }
  EXPECT_EQ(seen.size(), other_values().size());
}

TEST(ConfigTest, EverySettingIsDescribed) {
  for (const Setting& setting : settings_of(Config{})) {
    EXPECT_TRUE(setting.name.starts_with("TREADLE_"));
    EXPECT_GT(setting.meaning.size(), 10U) << setting.name;
    // What is printed can be given back.
    EXPECT_NO_THROW(with(setting.name, setting.standard)) << setting.name;
  }
}

TEST(ConfigTest, UnknownNameIsAnErrorThatTellsWhereToLook) {
  EXPECT_THAT(refusal_of("TREADLE_TIMEUOT", "5"),
              AllOf(HasSubstr("TREADLE_TIMEUOT=5"), HasSubstr("treadle-info --config")));
}

TEST(ConfigTest, OthersVariablesAreNotLookedAt) {
  EXPECT_NO_THROW(with("PATH", "/bin"));
  EXPECT_NO_THROW(with("treadle_log", "whatever"));
}

TEST(ConfigTest, WrongChoiceNamesTheRightOnes) {
  EXPECT_THAT(refusal_of("TREADLE_LOG", "loud"),
              AllOf(HasSubstr("TREADLE_LOG=loud"), HasSubstr("error, warn, info, debug")));
}

TEST(ConfigTest, SizesTakeBinarySuffixes) {
  EXPECT_EQ(with("TREADLE_WINDOW_BYTES", "128K").window_bytes, 128U << 10);
  EXPECT_EQ(with("TREADLE_WINDOW_BYTES", "128KiB").window_bytes, 128U << 10);
  EXPECT_EQ(with("TREADLE_WINDOW_BYTES", "2M").window_bytes, 2U << 20);
  EXPECT_EQ(with("TREADLE_WINDOW_BYTES", "16MiB").window_bytes, 16U << 20);
}

TEST(ConfigTest, SizesOutOfRangeOrOfNoSenseAreRefused) {
  for (const char* value : {"", "x", "-1", "1.5M", "64Q", "64 K", "65535", "16777217", "1G",
                            "18446744073709551616", "99999999999G"}) {
    EXPECT_THAT(refusal_of("TREADLE_WINDOW_BYTES", value), HasSubstr("expected")) << value;
  }
  EXPECT_THAT(refusal_of("TREADLE_WINDOW_BYTES", "1G"),
              AllOf(HasSubstr("65536"), HasSubstr("16777216")));
}

TEST(ConfigTest, DurationsAreWholeMilliseconds) {
  EXPECT_EQ(with("TREADLE_TIMEOUT", "1").timeout, milliseconds(1));
  EXPECT_EQ(with("TREADLE_HEARTBEAT", "100").heartbeat, milliseconds(100));
  for (const char* value : {"", "0", "-5", "99", "1e4", "1099511627777", "18446744073709551616"}) {
    EXPECT_THAT(refusal_of("TREADLE_HEARTBEAT", value), HasSubstr("milliseconds")) << value;
  }
}

// 5M of time would be read as minutes by some and is no size.
TEST(ConfigTest, DurationsTakeNoSuffix) {
  for (const char* value : {"5M", "5K", "5s", "5min"}) {
    EXPECT_THAT(refusal_of("TREADLE_TIMEOUT", value), HasSubstr("milliseconds")) << value;
  }
}

TEST(ConfigTest, EnvironmentIsRead) {
  ASSERT_EQ(setenv("TREADLE_TIMEOUT", "777", 1), 0);
  EXPECT_EQ(config_from_environment().timeout, milliseconds(777));
  ASSERT_EQ(setenv("TREADLE_NO_SUCH", "1", 1), 0);
  EXPECT_THROW(config_from_environment(), std::invalid_argument);
  unsetenv("TREADLE_NO_SUCH");
  unsetenv("TREADLE_TIMEOUT");
}

TEST(AgreedHashTest, ChangesExactlyWithWhatMustAgree) {
  const std::uint64_t standard = agreed_hash(Config{});
  std::set<std::uint64_t> hashes = {standard};
  for (const Setting& setting : settings_of(Config{})) {
    const std::uint64_t hash = agreed_hash(with(setting.name, other_values().at(setting.name)));
    if (setting.must_agree) {
      EXPECT_TRUE(hashes.insert(hash).second) << setting.name << " does not change the hash";
    } else {
      EXPECT_EQ(hash, standard) << setting.name;
    }
  }
}

TEST(AgreedHashTest, WhatMustAgree) {
  std::set<std::string> names;
  for (const Setting& setting : settings_of(Config{})) {
    if (setting.must_agree) names.insert(setting.name);
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre(
                         "TREADLE_TRANSPORT", "TREADLE_ALLREDUCE", "TREADLE_BROADCAST",
                         "TREADLE_ALLGATHER", "TREADLE_REDUCE_SCATTER", "TREADLE_HEARTBEAT",
                         "TREADLE_EAGER_BYTES", "TREADLE_SEGMENT_BYTES", "TREADLE_WINDOW_BYTES"));
}

}  // namespace
}  // namespace treadle
