#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "collectives/algorithms.h"
#include "core/config.h"
#include "tests/tools/tool.h"
#include "transport/transport.h"

namespace treadle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class InfoTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(tool_path("treadle-info"))) {
      GTEST_SKIP() << "treadle-info is not built (TREADLE_TOOLS)";
    }
  }
};

TEST_F(InfoTest, NamesEveryTransportAndAlgorithm) {
  for (const char* form : {"--json", ""}) {
    Tool info("treadle-info",
              *form == '\0' ? std::vector<std::string>{} : std::vector<std::string>{form});
    ASSERT_EQ(info.wait(), 0) << info.err();
    for (const TransportRow& row : standard_transports()) {
      EXPECT_THAT(info.out(), HasSubstr(std::string(row.summary)));
    }
    for (int i = 0; i < kCollectives; ++i) {
      const auto collective = static_cast<Collective>(i);
      EXPECT_THAT(info.out(), HasSubstr(std::string(name_of(collective))));
      for (const Algorithm& row : algorithms_of(collective)) {
        EXPECT_THAT(info.out(), HasSubstr(std::string(row.summary)));
      }
    }
  }
}

TEST_F(InfoTest, ConfigShowsEverySettingAsSet) {
  Tool info("treadle-info", {"--config"}, {{"TREADLE_TIMEOUT", "4711"}});
  ASSERT_EQ(info.wait(), 0) << info.err();
  for (const Setting& setting : settings_of(Config{})) {
    EXPECT_THAT(info.out(), AllOf(HasSubstr(setting.name), HasSubstr(setting.meaning)));
  }
  EXPECT_THAT(info.out(), HasSubstr("4711"));
}

TEST_F(InfoTest, SaysWhyATransportIsNotUsed) {
  Tool info("treadle-info", {}, {{"TREADLE_TRANSPORT", "tcp"}});
  ASSERT_EQ(info.wait(), 0) << info.err();
  EXPECT_THAT(info.out(), HasSubstr("no: TREADLE_TRANSPORT=tcp"));
}

TEST_F(InfoTest, BadSettingsAreRefusedWithTheReason) {
  const std::map<std::string, std::string> wrong = {{"TREADLE_TIMEUOT", "5"},
                                                    {"TREADLE_TIMEOUT", "soon"},
                                                    {"TREADLE_ALLREDUCE", "best"},
                                                    {"TREADLE_INTERFACE", "no-such-name"},
                                                    {"TREADLE_PORT_RANGE", "9-1"}};
  for (const auto& [name, value] : wrong) {
    Tool info("treadle-info", {}, {{name, value}});
    EXPECT_EQ(info.wait(), 2) << name;
    EXPECT_THAT(info.err(), HasSubstr(value));
  }
}

TEST_F(InfoTest, ListOfSettingsComesEvenWithABadOne) {
  Tool info("treadle-info", {"--config"}, {{"TREADLE_TIMEUOT", "5"}});
  EXPECT_EQ(info.wait(), 2);
  EXPECT_THAT(info.out(), HasSubstr("TREADLE_TIMEOUT"));
  EXPECT_THAT(info.err(), HasSubstr("TREADLE_TIMEUOT=5"));
}

}  // namespace
}  // namespace treadle
