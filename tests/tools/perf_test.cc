#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <regex>
#include <sstream>

#include "tests/tools/tool.h"

namespace treadle {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

using Arguments = std::vector<std::string>;

class PerfTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(tool_path("treadle-perf"))) {
      GTEST_SKIP() << "treadle-perf is not built (TREADLE_TOOLS)";
    }
  }
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_F(PerfTest, JsonLinesHaveTheAgreedKeysAndNoOthers) {
  Tool perf("treadle-perf",
            {"--spawn", "2", "--json", "-b", "8", "-e", "512", "-f", "8", "-n", "5"});
  ASSERT_EQ(perf.wait(), 0) << perf.err();
  const auto lines = lines_of(perf.out());
  ASSERT_EQ(lines.size(), 3U) << perf.out();
  const std::string number = R"(\d+(\.\d+)?(e-\d+)?)";
  const std::regex shape(R"(\{"op":"all_reduce","bytes":\d+,"ranks":2,"transport":"shm",)"
                         R"("peer":"treadle","p50_us":)" +
                         number + R"(,"p99_us":)" + number + R"(,"busbw_gbps":)" + number +
                         R"(,"correct":true\})");
  for (const std::string& line : lines) EXPECT_TRUE(std::regex_match(line, shape)) << line;
  EXPECT_THAT(lines[2], HasSubstr("\"bytes\":512,"));
}

TEST_F(PerfTest, EveryOperationIsMeasuredAndCorrect) {
  for (const char* operation : {"all_reduce", "broadcast", "all_gather", "reduce_scatter", "reduce",
                                "all_to_all", "barrier", "send_recv"}) {
    for (const char* transport : {"auto", "tcp"}) {
      Tool perf("treadle-perf", {"--spawn", "3", "--json", "--op", operation, "--transport",
                                 transport, "-b", "4", "-e", "700000", "-f", "400", "-n", "3"});
      EXPECT_EQ(perf.wait(), 0) << operation << " " << transport << "\n" << perf.err();
      EXPECT_THAT(perf.out(), AllOf(HasSubstr(operation), HasSubstr("\"correct\":true"),
                                    Not(HasSubstr("\"correct\":false"))));
      EXPECT_THAT(perf.out(), HasSubstr(transport == std::string("tcp") ? "\"tcp\"" : "\"shm\""));
    }
  }
}

TEST_F(PerfTest, InPlaceIsCorrect) {
  for (const char* operation : {"all_reduce", "all_gather", "reduce_scatter", "reduce"}) {
    Tool perf("treadle-perf", {"--spawn", "3", "--in-place", "--op", operation, "-b", "4", "-e",
                               "700000", "-f", "400", "-n", "3"});
    EXPECT_EQ(perf.wait(), 0) << operation << "\n" << perf.err();
    EXPECT_THAT(perf.out(), AllOf(HasSubstr(" in place"), HasSubstr("  yes\n")));
  }
}

TEST_F(PerfTest, WithoutCheckNothingIsClaimed) {
  Tool perf("treadle-perf", {"--spawn", "2", "--json", "--check", "off", "-e", "8", "-n", "2"});
  EXPECT_EQ(perf.wait(), 0) << perf.err();
  EXPECT_THAT(perf.out(), HasSubstr("\"correct\":null"));
}

TEST_F(PerfTest, RanksComeFromTheEnvironment) {
  std::string directory = (std::filesystem::temp_directory_path() / "treadle-test-XXXXXX").string();
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const Arguments arguments = {"-e", "8", "-n", "2", "--json", "--rendezvous", "file:" + directory};
  Tool zero("treadle-perf", arguments, {{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  Tool one("treadle-perf", arguments, {{"RANK", "1"}, {"WORLD_SIZE", "2"}});
  EXPECT_EQ(zero.wait(), 0) << zero.err();
  EXPECT_EQ(one.wait(), 0) << one.err();
  EXPECT_THAT(zero.out(), HasSubstr("\"ranks\":2"));
  EXPECT_THAT(one.out(), IsEmpty());
  std::filesystem::remove_all(directory);
}

TEST_F(PerfTest, KilledRankEndsAllAndIsNamed) {
  // Long enough to be killed in: seconds for the second size alone.
  Tool perf("treadle-perf", {"--spawn", "3", "--json", "-f", "2", "-n", "100000"});
  ASSERT_THAT(perf.read_line(), HasSubstr("\"bytes\":8,"));
  const auto ranks = perf.children();
  ASSERT_EQ(ranks.size(), 3U);
  ::kill(ranks[1], SIGKILL);
  EXPECT_EQ(perf.wait(), 1);
  EXPECT_THAT(perf.err(), HasSubstr("rank 1 was killed by signal 9"));
  for (const pid_t rank : ranks) EXPECT_NE(::kill(rank, 0), 0) << "a rank goes on";
}

struct Refusal {
  Arguments arguments;
  std::string text;
};

TEST_F(PerfTest, BadCommandLinesAreRefusedWithTheReason) {
  const std::vector<Refusal> refusals = {
      {{}, "--spawn N"},
      {{"--spawn", "2", "--op", "all_redice"}, "all_redice"},
      {{"--spawn", "2", "--dtype", "f32", "--reduce-op", "band"}, "no meaning"},
      {{"--spawn", "2", "--algorithm", "best"}, "'best' does not exist"},
      {{"--spawn", "2", "--op", "all_to_all", "--in-place"}, "no in-place form"},
      {{"--spawn", "2", "-b", "2K", "-e", "1K"}, "--min-bytes is above --max-bytes"},
      {{"--spawn", "1", "--op", "send_recv"}, "at least 2 ranks"},
  };
  for (const Refusal& refusal : refusals) {
    Tool perf("treadle-perf", refusal.arguments);
    EXPECT_EQ(perf.wait(), 2) << refusal.text;
    EXPECT_THAT(perf.err(), HasSubstr(refusal.text));
    EXPECT_THAT(perf.out(), IsEmpty());
  }
}

TEST_F(PerfTest, BadSettingIsRefused) {
  Tool perf("treadle-perf", {"--spawn", "2"}, {{"TREADLE_TIMEUOT", "5"}});
  EXPECT_EQ(perf.wait(), 2);
  EXPECT_THAT(perf.err(), HasSubstr("TREADLE_TIMEUOT=5"));
}

}  // namespace
}  // namespace treadle
