#include "core/processor.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "tests/processes.h"

namespace treadle {
namespace {

// A tree of control groups.
class CpuQuotaTest : public testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    const auto path = root() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << '\n';
  }
  std::optional<int> quota(const std::string& membership) const {
    std::istringstream lines(membership);
    return cpu_quota(lines, root());
  }
  std::filesystem::path root() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

TEST_F(CpuQuotaTest, IsNothingWithoutAQuota) {
  EXPECT_EQ(quota(""), std::nullopt);
  EXPECT_EQ(quota("0::/job\n"), std::nullopt);
  write("job/cpu.max", "max 100000");
  write("cpu/cpu.cfs_quota_us", "-1");
  write("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota("0::/job\n1:cpu:/\nnonsense\n"), std::nullopt);
}

TEST_F(CpuQuotaTest, CountsWholeCpusOfVersion2) {
  write("job/cpu.max", "150000 100000");
  EXPECT_EQ(quota("0::/job\n"), 2);
  write("job/cpu.max", "1000 100000");
  EXPECT_EQ(quota("0::/job\n"), 1);
  write("job/cpu.max", "400000 100000");
  EXPECT_EQ(quota("0::/job\n"), 4);
}

TEST_F(CpuQuotaTest, TheTightestOfTheGroupsAroundCounts) {
  write("pods/cpu.max", "300000 100000");
  write("pods/job/cpu.max", "800000 100000");
  EXPECT_EQ(quota("0::/pods/job\n"), 3);
  write("cpu.max", "200000 100000");  // what a container sees of itself
  EXPECT_EQ(quota("0::/pods/job\n"), 2);
  EXPECT_EQ(quota("0::/elsewhere\n"), 2);
}

TEST_F(CpuQuotaTest, ReadsVersion1) {
  write("cpu,cpuacct/job/cpu.cfs_quota_us", "250000");
  write("cpu,cpuacct/job/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota("4:memory:/job\n3:cpu,cpuacct:/job\n"), 3);
  EXPECT_EQ(quota("3:cpuacct:/job\n"), std::nullopt);
}

TEST(AllowedCpusTest, IsAtLeastOne) { EXPECT_GE(allowed_cpus(), 1); }

}  // namespace
}  // namespace treadle
