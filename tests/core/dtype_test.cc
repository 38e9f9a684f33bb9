#include "core/dtype.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>
#include <vector>

namespace treadle {
namespace {

std::vector<DType> all_dtypes() {
  std::vector<DType> all;
  for (int i = 0; i < kDTypes; ++i) all.push_back(static_cast<DType>(i));
  return all;
}
std::vector<ReduceOp> all_ops() {
  std::vector<ReduceOp> all;
  for (int i = 0; i < kReduceOps; ++i) all.push_back(static_cast<ReduceOp>(i));
  return all;
}

// Both travel between ranks as one byte.
TEST(DTypeTest, NumbersNamesAndSizesAreFixed) {
  struct Row {
    DType dtype;
    int number;
    std::string_view name;
    std::size_t bytes;
  };
  const std::vector<Row> rows = {
      {DType::kF64, 0, "f64", 8},   {DType::kF32, 1, "f32", 4},  {DType::kF16, 2, "f16", 2},
      {DType::kBF16, 3, "bf16", 2}, {DType::kI64, 4, "i64", 8},  {DType::kI32, 5, "i32", 4},
      {DType::kI16, 6, "i16", 2},   {DType::kI8, 7, "i8", 1},    {DType::kU8, 8, "u8", 1},
      {DType::kBool, 9, "bool", 1}, {DType::kC64, 10, "c64", 8}, {DType::kC128, 11, "c128", 16},
  };
  ASSERT_EQ(rows.size(), static_cast<std::size_t>(kDTypes));
  for (const Row& row : rows) {
    EXPECT_EQ(static_cast<int>(row.dtype), row.number) << row.name;
    EXPECT_EQ(name_of(row.dtype), row.name);
    EXPECT_EQ(size_of(row.dtype), row.bytes) << row.name;
  }
}

TEST(ReduceOpTest, NumbersAndNamesAreFixed) {
  const std::vector<std::string_view> names = {"sum",  "avg", "min",  "max",       "prod",
                                               "band", "bor", "bxor", "premul_sum"};
  ASSERT_EQ(names.size(), static_cast<std::size_t>(kReduceOps));
  for (std::size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(name_of(static_cast<ReduceOp>(i)), names[i]);
  }
  EXPECT_EQ(static_cast<int>(ReduceOp::kPremulSum), 8);
}

TEST(DTypeTest, KindsDoNotOverlap) {
  const std::set<DType> floats = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};
  const std::set<DType> complexes = {DType::kC64, DType::kC128};
  for (const DType dtype : all_dtypes()) {
    EXPECT_EQ(is_float(dtype), floats.contains(dtype)) << name_of(dtype);
    EXPECT_EQ(is_complex(dtype), complexes.contains(dtype)) << name_of(dtype);
  }
}

TEST(SupportsTest, EveryCell) {
  for (const DType dtype : all_dtypes()) {
    const bool number_line = !is_complex(dtype);
    const bool whole = !is_float(dtype) && !is_complex(dtype);
    for (const ReduceOp op : all_ops()) {
      SCOPED_TRACE(testing::Message() << name_of(op) << " of " << name_of(dtype));
      switch (op) {
        case ReduceOp::kSum:
        case ReduceOp::kProd:
          EXPECT_TRUE(supports(op, dtype));
          break;
        case ReduceOp::kAvg:
        case ReduceOp::kPremulSum:
          EXPECT_EQ(supports(op, dtype), !whole);
          break;
        case ReduceOp::kMin:
        case ReduceOp::kMax:
          EXPECT_EQ(supports(op, dtype), number_line);
          break;
        case ReduceOp::kBand:
        case ReduceOp::kBor:
        case ReduceOp::kBxor:
          EXPECT_EQ(supports(op, dtype), whole);
          break;
      }
    }
  }
}

}  // namespace
}  // namespace treadle
