#include "collectives/scratch.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

namespace treadle {
namespace {

TEST(ScratchPoolTest, HandsOutWhatCameBack) {
  ScratchPool pool(1000);
  ScratchBlock block = pool.take(600);
  ASSERT_EQ(block.bytes().size(), 600u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.bytes().data()) % 64, 0u);
  const std::byte* const place = block.bytes().data();
  pool.give_back(std::move(block));
  EXPECT_EQ(pool.kept_bytes(), 600u);
  const ScratchBlock larger = pool.take(601);
  EXPECT_EQ(larger.bytes().size(), 601u);
  const ScratchBlock again = pool.take(500);
  EXPECT_EQ(again.bytes().data(), place);
  EXPECT_EQ(pool.kept_bytes(), 0u);
}

TEST(ScratchPoolTest, KeepsNoMoreThanItMay) {
  ScratchPool pool(1000);
  ScratchBlock first = pool.take(400);
  ScratchBlock second = pool.take(400);
  ScratchBlock third = pool.take(400);
  const std::byte* const last = third.bytes().data();
  pool.give_back(std::move(first));
  pool.give_back(std::move(second));
  pool.give_back(std::move(third));
  EXPECT_EQ(pool.kept_bytes(), 800u);
  EXPECT_EQ(pool.take(400).bytes().data(), last);
  pool.give_back(pool.take(1001));
  EXPECT_EQ(pool.kept_bytes(), 400u);
  pool.give_back(ScratchBlock());
  EXPECT_EQ(pool.kept_bytes(), 400u);
}

}  // namespace
}  // namespace treadle
