#include "core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

namespace treadle {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kLastCode = static_cast<int>(ErrorCode::kUnsupported);

TEST(ErrorTest, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int i = 0; i <= kLastCode; ++i) names.insert(name_of(static_cast<ErrorCode>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kLastCode) + 1);
  EXPECT_FALSE(names.contains("unknown"));
}

TEST(ErrorTest, TextIsFormatted) {
  const Error error(ErrorCode::kTimeout, "recv from rank {}: {} of {} bytes", 3, 0, 64);
  EXPECT_EQ(error.code(), ErrorCode::kTimeout);
  EXPECT_STREQ(error.what(), "recv from rank 3: 0 of 64 bytes");
}

TEST(ErrorTest, BlamesNobodyUntilTold) {
  Error error(ErrorCode::kPeerLost, "gone");
  EXPECT_EQ(error.failed_rank(), -1);
  EXPECT_EQ(error.blame(5).failed_rank(), 5);
  EXPECT_EQ(error.failed_rank(), 5);
}

TEST(ErrorTest, CopiesKeepEverythingAndAreIndependent) {
  Error first(ErrorCode::kRemote, "rank 2 failed");
  first.blame(2);
  Error second = first;
  second.add_context("reducing");
  EXPECT_EQ(second.code(), ErrorCode::kRemote);
  EXPECT_EQ(second.failed_rank(), 2);
  EXPECT_STREQ(first.what(), "rank 2 failed");
  EXPECT_STREQ(second.what(), "rank 2 failed\n  while reducing");
}

TEST(AttemptTest, EveryFrameAddsItsLine) {
  try {
    attempt(
        [] { attempt([] { throw Error(ErrorCode::kPeerLost, "closed"); }, "sending chunk {}", 1); },
        "in all_reduce {} of {}", 7, "group");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "closed\n  while sending chunk 1\n  while in all_reduce 7 of group");
    EXPECT_EQ(error.code(), ErrorCode::kPeerLost);
  }
}

TEST(AttemptTest, GoodResultsPassThrough) {
  EXPECT_EQ(attempt([] { return 42; }, "answering"), 42);
  int value = 0;
  int& reference = attempt([&]() -> int& { return value; }, "referring");
  EXPECT_EQ(&reference, &value);
  const auto owner = attempt([] { return std::make_unique<int>(3); }, "making");
  EXPECT_EQ(*owner, 3);
}

TEST(AttemptTest, OtherExceptionsPassUnchanged) {
  EXPECT_THROW(attempt([] { throw std::invalid_argument("no"); }, "trying"), std::invalid_argument);
}

TEST(SystemErrorTest, EndsWithTheReasonAndTheNumber) {
  const Error error = system_error(ECONNREFUSED, "connect to {}", "10.0.0.1:5");
  EXPECT_EQ(error.code(), ErrorCode::kSystem);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("connect to 10.0.0.1:5: "), HasSubstr("refused"),
                                  HasSubstr("(errno 111)")));
}

TEST(CheckTest, TrueDoesNothing) { EXPECT_NO_THROW(TREADLE_CHECK(1 + 1 == 2, "arithmetic")); }

TEST(CheckTest, FalseNamesPlaceConditionAndText) {
  try {
    const int rank = 9;
    TREADLE_CHECK(rank < 4, "rank {} of {}", rank, 4);
    FAIL() << "the check passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBug);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 9 of 4"), HasSubstr("rank < 4"),
                                    HasSubstr("error_test.cc:")));
  }
}

}  // namespace
}  // namespace treadle
