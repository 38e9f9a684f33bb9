// Single values whose results people rely on, written out, for every version that runs here.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tests/core/kernels/fold_inputs.h"

namespace treadle {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The fold of single elements, which every version repeats over more than two vectors so that its
// wide loop and its tail both compute it.
template <typename T>
T fold_of(const FoldVersion& version, DType dtype, ReduceOp op, const std::vector<T>& values,
          Scale scale = {}) {
  constexpr std::size_t kElems = 150;
  std::vector<std::vector<T>> inputs;
  std::vector<const std::byte*> pointers;
  for (const T& value : values) inputs.emplace_back(kElems, value);
  for (const auto& input : inputs) {
    pointers.push_back(reinterpret_cast<const std::byte*>(input.data()));
  }
  std::vector<T> out(kElems);
  version.fold(dtype, op)(reinterpret_cast<std::byte*>(out.data()), pointers.data(),
                          static_cast<int>(values.size()), kElems, scale);
  for (const T& one : out) EXPECT_EQ(std::memcmp(&one, out.data(), sizeof(T)), 0);
  return out[0];
}

class FoldValuesTest : public testing::TestWithParam<FoldVersion> {
 protected:
  void SetUp() override {
    if (!GetParam().runs_here()) GTEST_SKIP() << "this processor lacks " << GetParam().name;
  }
  float f32(ReduceOp op, const std::vector<float>& values, Scale scale = {}) {
    return fold_of(GetParam(), DType::kF32, op, values, scale);
  }
  std::uint16_t half(ReduceOp op, const std::vector<std::uint16_t>& values, Scale scale = {}) {
    return fold_of(GetParam(), DType::kF16, op, values, scale);
  }
  std::uint16_t brain(ReduceOp op, const std::vector<std::uint16_t>& values, Scale scale = {}) {
    return fold_of(GetParam(), DType::kBF16, op, values, scale);
  }
};

TEST_P(FoldValuesTest, SumsFromLeftToRight) {
  EXPECT_EQ(f32(ReduceOp::kSum, {1e8F, -1e8F, 1.0F}), 1.0F);
  EXPECT_EQ(f32(ReduceOp::kSum, {1.0F, 1e8F, -1e8F}), 0.0F);
}

TEST_P(FoldValuesTest, MinAndMaxPropagateNanFromEveryPlace) {
  for (const ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
    EXPECT_TRUE(std::isnan(f32(op, {kNan, 1, 2})));
    EXPECT_TRUE(std::isnan(f32(op, {1, kNan, 2})));
    EXPECT_TRUE(std::isnan(f32(op, {1, 2, kNan})));
    EXPECT_TRUE(std::isnan(f32(op, {kNan, kInf})));
    EXPECT_TRUE(std::isnan(f32(op, {-kInf, kNan})));
  }
}

TEST_P(FoldValuesTest, MinusZeroIsLessThanZero) {
  EXPECT_TRUE(std::signbit(f32(ReduceOp::kMin, {0.0F, -0.0F})));
  EXPECT_TRUE(std::signbit(f32(ReduceOp::kMin, {-0.0F, 0.0F})));
  EXPECT_FALSE(std::signbit(f32(ReduceOp::kMax, {0.0F, -0.0F})));
  EXPECT_FALSE(std::signbit(f32(ReduceOp::kMax, {-0.0F, 0.0F})));
  EXPECT_EQ(half(ReduceOp::kMin, {0x0000, 0x8000}), 0x8000);
  EXPECT_EQ(brain(ReduceOp::kMax, {0x8000, 0x0000}), 0x0000);
}

TEST_P(FoldValuesTest, EveryNanThatResultsIsTheSame) {
  const float negative = -kNan;
  const std::vector<std::vector<float>> cases = {
      {kInf, -kInf}, {negative, 1}, {1, negative}, {negative, kNan}, {kNan, negative}};
  for (const auto& values : cases) {
    EXPECT_EQ(std::bit_cast<std::uint32_t>(f32(ReduceOp::kSum, values)), 0x7FC00000U);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(f32(ReduceOp::kAvg, values, {1, 2})), 0x7FC00000U);
  }
  EXPECT_EQ(half(ReduceOp::kSum, {0x7C00, 0xFC00}), 0x7E00);
  EXPECT_EQ(brain(ReduceOp::kSum, {0xFFC1, 0x3F80}), 0x7FC0);
}

TEST_P(FoldValuesTest, DenormalsAreNotFlushed) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(f32(ReduceOp::kSum, {tiny, tiny}), 2 * tiny);
  EXPECT_EQ(half(ReduceOp::kSum, {0x0001, 0x0001}), 0x0002);
  EXPECT_EQ(brain(ReduceOp::kSum, {0x0001, 0x0001}), 0x0002);
}

// 1 + 2^-8 + 2^-8 in bfloat16: rounding after each addition would lose both.
TEST_P(FoldValuesTest, SixteenBitSumsRoundOnce) {
  EXPECT_EQ(brain(ReduceOp::kSum, {0x3F80, 0x3B80, 0x3B80}), 0x3F81);
  EXPECT_EQ(half(ReduceOp::kSum, {0x3C00, 0x1000, 0x1000}), 0x3C01);
  // 60000 + 60000 - 60000 passes beyond the largest half.
  EXPECT_EQ(half(ReduceOp::kSum, {0x7B53, 0x7B53, 0xFB53}), 0x7B53);
  EXPECT_EQ(half(ReduceOp::kSum, {0x7B53, 0x7B53}), 0x7C00);
}

TEST_P(FoldValuesTest, SixteenBitSumsRoundTiesToEven) {
  EXPECT_EQ(brain(ReduceOp::kSum, {0x3F80, 0x3B80}), 0x3F80);  // 1 + half a step
  EXPECT_EQ(brain(ReduceOp::kSum, {0x3F81, 0x3B80}), 0x3F82);
  EXPECT_EQ(half(ReduceOp::kSum, {0x3C00, 0x1000}), 0x3C00);
  EXPECT_EQ(half(ReduceOp::kSum, {0x3C01, 0x1000}), 0x3C02);
}

TEST_P(FoldValuesTest, ScalesApplyBeforeAndAfter) {
  EXPECT_EQ(f32(ReduceOp::kAvg, {1, 2, 4}, {.before = 1, .divisor = 3}), 7.0F / 3.0F);
  EXPECT_EQ(f32(ReduceOp::kPremulSum, {3, 5}, {.before = 0.5, .divisor = 1}), 4.0F);
  EXPECT_EQ(f32(ReduceOp::kPremulSum, {3}, {.before = 0.5, .divisor = 1}), 1.5F);
  EXPECT_EQ(brain(ReduceOp::kAvg, {0x3F80, 0x4000}, {.before = 1, .divisor = 2}), 0x3FC0);
  using C64 = std::array<float, 2>;
  EXPECT_EQ(fold_of<C64>(GetParam(), DType::kC64, ReduceOp::kAvg, {{1, 2}, {3, 6}}, {1, 2}),
            (C64{2, 4}));
}

TEST_P(FoldValuesTest, ComplexProductsMultiplyAsComplexNumbers) {
  using C128 = std::array<double, 2>;
  EXPECT_EQ(fold_of<C128>(GetParam(), DType::kC128, ReduceOp::kProd, {{1, 2}, {3, 4}, {0, 1}}),
            (C128{-10, -5}));
}

TEST_P(FoldValuesTest, IntegersWrap) {
  constexpr auto kMax64 = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(fold_of<std::int8_t>(GetParam(), DType::kI8, ReduceOp::kSum, {127, 1}), -128);
  EXPECT_EQ(fold_of<std::uint8_t>(GetParam(), DType::kU8, ReduceOp::kProd, {16, 17}), 16);
  EXPECT_EQ(fold_of<std::int16_t>(GetParam(), DType::kI16, ReduceOp::kProd, {-32768, -1}), -32768);
  EXPECT_EQ(fold_of<std::int32_t>(GetParam(), DType::kI32, ReduceOp::kProd, {65536, 65536}), 0);
  EXPECT_EQ(fold_of<std::int64_t>(GetParam(), DType::kI64, ReduceOp::kSum, {kMax64, 1}),
            std::numeric_limits<std::int64_t>::min());
}

TEST_P(FoldValuesTest, SignsCountInMinAndMax) {
  EXPECT_EQ(fold_of<std::int8_t>(GetParam(), DType::kI8, ReduceOp::kMin, {-1, 1}), -1);
  EXPECT_EQ(fold_of<std::uint8_t>(GetParam(), DType::kU8, ReduceOp::kMin, {255, 1}), 1);
}

TEST_P(FoldValuesTest, AnyByteButZeroIsTrue) {
  const auto fold = [&](ReduceOp op, const std::vector<std::uint8_t>& values) {
    return fold_of(GetParam(), DType::kBool, op, values);
  };
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kBor}) {
    EXPECT_EQ(fold(op, {2, 0, 0}), 1);
    EXPECT_EQ(fold(op, {0, 0}), 0);
  }
  for (const ReduceOp op : {ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kBand}) {
    EXPECT_EQ(fold(op, {2, 1, 4}), 1);
    EXPECT_EQ(fold(op, {2, 0}), 0);
  }
  EXPECT_EQ(fold(ReduceOp::kBxor, {2, 4}), 0);
  EXPECT_EQ(fold(ReduceOp::kBxor, {2, 4, 8}), 1);
  EXPECT_EQ(fold(ReduceOp::kSum, {128}), 1);
}

// Whatever the order of additions, fp32 sums stay close to the exact ones.
TEST_P(FoldValuesTest, SumsAreCloseToDoublePrecision) {
  constexpr std::size_t kElems = 4096;
  constexpr int kInputs = 8;
  std::mt19937 random(3);
  std::vector<std::vector<float>> inputs(kInputs, std::vector<float>(kElems));
  std::vector<const std::byte*> pointers;
  for (auto& input : inputs) {
    for (float& x : input) x = static_cast<float>(static_cast<std::int32_t>(random())) * 0x1p-31F;
    pointers.push_back(reinterpret_cast<const std::byte*>(input.data()));
  }
  std::vector<float> out(kElems);
  GetParam().fold(DType::kF32, ReduceOp::kSum)(reinterpret_cast<std::byte*>(out.data()),
                                               pointers.data(), kInputs, kElems, {});
  for (std::size_t i = 0; i < kElems; ++i) {
    double exact = 0;
    for (const auto& input : inputs) exact += static_cast<double>(input[i]);
    // Seven additions of partial sums below 8, each wrong by at most half a step.
    ASSERT_NEAR(static_cast<double>(out[i]), exact, 7 * 0x1p-22) << "element " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, FoldValuesTest,
                         testing::ValuesIn(fold_versions().begin(), fold_versions().end()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace treadle
