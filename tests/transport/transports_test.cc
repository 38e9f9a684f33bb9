#include <gtest/gtest.h>

#include <algorithm>

#include "transport/transport.h"

namespace treadle {
namespace {

TEST(TransportsTest, SharedMemoryComesBeforeTheNetwork) {
  const auto rows = standard_transports();
  ASSERT_GE(rows.size(), 2u);
  EXPECT_TRUE(std::ranges::is_partitioned(rows, &TransportRow::same_host_only))
      << "rows are ordered best first, and those of one host are better";
  EXPECT_FALSE(rows.back().same_host_only) << "nothing connects hosts";
}

TEST(TransportsTest, ARowHasTheNameOfItsTransport) {
  Engine engine({.slice = milliseconds(1000), .start_thread = false});
  const Config config;
  for (const TransportRow& row : standard_transports()) {
    EXPECT_FALSE(row.summary.empty());
    engine.run_on_loop([&] { EXPECT_EQ(row.make({engine, config, Log()})->name(), row.name); });
  }
}

TEST(HostIdTest, IsTheSameForAllProcessesOfAHost) {
  const Config config;
  EXPECT_EQ(this_host_id(config), this_host_id(config));
}

TEST(HostIdTest, TreadleHostTellsHostsApart) {
  Config one, other;
  one.host = std::string("a");
  other.host = std::string("b");
  EXPECT_NE(this_host_id(one), this_host_id(other));
  EXPECT_NE(this_host_id(one), this_host_id(Config{}));
}

}  // namespace
}  // namespace treadle
