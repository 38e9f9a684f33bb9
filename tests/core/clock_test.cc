#include "core/clock.h"

#include <gtest/gtest.h>

namespace treadle {
namespace {

TEST(ClockTest, DeadlineLiesItsTimeoutAhead) {
  const Deadline before = Clock::now();
  const Deadline deadline = deadline_after(milliseconds(500));
  EXPECT_GE(deadline, before + milliseconds(500));
  EXPECT_LE(deadline, Clock::now() + milliseconds(500));
}

TEST(ClockTest, TimeoutsOfAgesMeanNever) {
  EXPECT_EQ(deadline_after(milliseconds::max()), Deadline::max());
  EXPECT_LT(deadline_after(std::chrono::hours(24 * 365)), Deadline::max());
}

}  // namespace
}  // namespace treadle
