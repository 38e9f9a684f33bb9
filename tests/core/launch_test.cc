#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>

#include "core/config.h"

namespace treadle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Variables = std::vector<std::pair<std::string, std::string>>;

std::string refusal_of(const Variables& variables) {
  try {
    launch_environment_from(variables);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

TEST(LaunchTest, NothingSetIsNoLauncher) {
  EXPECT_EQ(launch_environment_from({}), LaunchEnvironment{});
  EXPECT_EQ(launch_environment_from(Variables{{"PATH", "/bin"}, {"MASTER_PORT", "29500"}}),
            LaunchEnvironment{});
}

TEST(LaunchTest, TorchrunIsRead) {
  const LaunchEnvironment launch = launch_environment_from(Variables{
      {"MASTER_ADDR", "host-a"},
      {"MASTER_PORT", "29500"},
      {"RANK", "5"},
      {"WORLD_SIZE", "8"},
      {"LOCAL_RANK", "1"},
      {"LOCAL_WORLD_SIZE", "4"},
      {"TORCHELASTIC_RUN_ID", "my-run"},
  });
  EXPECT_EQ(launch, (LaunchEnvironment{.launcher = "torchrun",
                                       .rank = 5,
                                       .ranks = 8,
                                       .local_rank = 1,
                                       .local_ranks = 4,
                                       .job = "my-run",
                                       .master_address = "host-a",
                                       .master_port = 29500}));
}

TEST(LaunchTest, OpenMpiIsRead) {
  const LaunchEnvironment launch = launch_environment_from(Variables{
      {"OMPI_COMM_WORLD_RANK", "1"},
      {"OMPI_COMM_WORLD_SIZE", "2"},
      {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
      {"PMIX_NAMESPACE", "ns-7"},
      {"MASTER_ADDR", "nobody"},
  });
  EXPECT_EQ(launch, (LaunchEnvironment{.launcher = "Open MPI",
                                       .rank = 1,
                                       .ranks = 2,
                                       .local_rank = 1,
                                       .local_ranks = 2,
                                       .job = "ns-7",
                                       .master_address = "",
                                       .master_port = 0}));
}

TEST(LaunchTest, FirstJobNameThatIsSetCounts) {
  const LaunchEnvironment launch = launch_environment_from(Variables{
      {"OMPI_COMM_WORLD_RANK", "0"},
      {"OMPI_COMM_WORLD_SIZE", "2"},
      {"PMIX_NAMESPACE", "second"},
      {"OMPI_MCA_ess_base_jobid", "first"},
  });
  EXPECT_EQ(launch.job, "first");
}

TEST(LaunchTest, PmiIsRead) {
  const LaunchEnvironment launch =
      launch_environment_from(Variables{{"PMI_RANK", "2"}, {"PMI_SIZE", "3"}});
  EXPECT_EQ(launch.launcher, "PMI");
  EXPECT_EQ(launch.rank, 2);
  EXPECT_EQ(launch.ranks, 3);
  EXPECT_EQ(launch.local_ranks, 0);
}

TEST(LaunchTest, TorchrunInsideMpirunCounts) {
  const LaunchEnvironment launch = launch_environment_from(Variables{
      {"OMPI_COMM_WORLD_RANK", "1"},
      {"OMPI_COMM_WORLD_SIZE", "2"},
      {"RANK", "6"},
      {"WORLD_SIZE", "8"},
  });
  EXPECT_EQ(launch.launcher, "torchrun");
  EXPECT_EQ(launch.rank, 6);
}

TEST(LaunchTest, HalfALauncherIsNone) {
  EXPECT_EQ(launch_environment_from(Variables{{"RANK", "1"}}).launcher, "");
  EXPECT_EQ(launch_environment_from(Variables{{"RANK", "1"}, {"PMI_RANK", "0"}, {"PMI_SIZE", "2"}})
                .launcher,
            "PMI");
}

TEST(LaunchTest, SenselessNumbersAreRefusedByName) {
  EXPECT_THAT(refusal_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}),
              AllOf(HasSubstr("RANK=2"), HasSubstr("from 0 to 1")));
  for (const char* value : {"", "x", "-1", "0", "2x", "99999999999999999999"}) {
    EXPECT_THAT(refusal_of({{"RANK", "0"}, {"WORLD_SIZE", value}}), HasSubstr("WORLD_SIZE="))
        << value;
  }
  EXPECT_THAT(refusal_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_PORT", "65536"}}),
              HasSubstr("MASTER_PORT=65536"));
}

TEST(LaunchTest, EnvironmentIsRead) {
  ASSERT_EQ(setenv("RANK", "3", 1), 0);
  ASSERT_EQ(setenv("WORLD_SIZE", "4", 1), 0);
  EXPECT_EQ(launch_environment().rank, 3);
  EXPECT_EQ(launch_environment().ranks, 4);
  unsetenv("RANK");
  unsetenv("WORLD_SIZE");
}

}  // namespace
}  // namespace treadle
