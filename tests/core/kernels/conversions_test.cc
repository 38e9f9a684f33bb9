// 16-bit floats to fp32 and back: every 16-bit pattern, and the fp32 values around every rounding
// boundary, in every version.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/kernels/reduce_versions.h"
#include "tests/core/kernels/fold_reference.h"

namespace treadle {
namespace {

struct Case {
  ReduceVersion version;
  DType dtype;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const ReduceVersion& version : reduce_versions()) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) cases.push_back({version, dtype});
  }
  return cases;
}

std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  return all;
}

class ConversionsTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const FoldVersion& version = GetParam().version.fold;
    if (!version.runs_here()) GTEST_SKIP() << "this processor lacks " << version.name;
  }
  std::vector<float> widen(const std::vector<std::uint16_t>& in) {
    std::vector<float> out(in.size());
    GetParam()
        .version.conversions(GetParam().dtype)
        .widen(reinterpret_cast<const std::byte*>(in.data()), out.data(), in.size());
    return out;
  }
  std::vector<std::uint16_t> narrow(const std::vector<float>& in) {
    std::vector<std::uint16_t> out(in.size());
    GetParam()
        .version.conversions(GetParam().dtype)
        .narrow(in.data(), reinterpret_cast<std::byte*>(out.data()), in.size());
    return out;
  }
};

TEST_P(ConversionsTest, WideningIsExact) {
  const auto& format = reference::format_of(GetParam().dtype);
  const auto all = all_patterns();
  const auto wide = widen(all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto expected = static_cast<float>(reference::widen(format, all[i]));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(wide[i])) << "bits " << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), std::bit_cast<std::uint32_t>(expected))
          << "bits " << i;
    }
  }
}

TEST_P(ConversionsTest, NarrowingUndoesWidening) {
  const auto& format = reference::format_of(GetParam().dtype);
  const auto all = all_patterns();
  const auto back = narrow(widen(all));
  const int quiet_bit = 1 << (format.fraction_bits - 1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    // A NaN keeps its sign and payload, and becomes quiet.
    const bool nan = std::isnan(reference::widen(format, all[i]));
    ASSERT_EQ(back[i], nan ? all[i] | quiet_bit : all[i]) << "bits " << i;
  }
}

// The neighbours of every 16-bit value, of every middle between two, and their own neighbours.
TEST_P(ConversionsTest, NarrowingRoundsToNearestEven) {
  const auto& format = reference::format_of(GetParam().dtype);
  std::vector<float> values;
  for (unsigned bits = 0; bits < 0x7FFF; ++bits) {
    const auto low = static_cast<float>(reference::widen(format, static_cast<std::uint16_t>(bits)));
    const auto high =
        static_cast<float>(reference::widen(format, static_cast<std::uint16_t>(bits + 1)));
    if (!std::isfinite(low) || std::isnan(high)) break;
    const float middle =
        std::isinf(high)
            ? low + (low - std::bit_cast<float>(std::bit_cast<std::uint32_t>(low) - (1U << 13)))
            : low + (high - low) / 2;
    for (const float x : {low, middle, std::nextafter(middle, 0.0F),
                          std::nextafter(middle, std::numeric_limits<float>::infinity())}) {
      values.push_back(x);
      values.push_back(-x);
    }
  }
  for (const float x :
       {0x1p-149F, 0x1p-24F, 0x1p-25F, 0x1.8p-25F, 65519.0F, 65520.0F, 1e30F,
        std::numeric_limits<float>::max(), std::numeric_limits<float>::infinity()}) {
    values.push_back(x);
    values.push_back(-x);
  }
  const auto narrowed = narrow(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(narrowed[i], reference::narrow(format, static_cast<double>(values[i])))
        << std::hexfloat << values[i];
  }
}

TEST_P(ConversionsTest, NanStaysNan) {
  std::vector<float> nans;
  for (unsigned bit = 0; bit < 23; ++bit) {
    nans.push_back(std::bit_cast<float>(0x7F800000U | (1U << bit)));
    nans.push_back(std::bit_cast<float>(0xFF800000U | (1U << bit)));
  }
  nans.push_back(std::bit_cast<float>(0x7FFFFFFFU));
  const auto narrowed = narrow(nans);
  const auto expected = [&] {  // of the portable version, whose NaNs the other versions must give
    std::vector<std::uint16_t> out(nans.size());
    conversions_portable(GetParam().dtype)
        .narrow(nans.data(), reinterpret_cast<std::byte*>(out.data()), out.size());
    return out;
  }();
  EXPECT_EQ(narrowed, expected);
  for (const float back : widen(narrowed)) EXPECT_TRUE(std::isnan(back));
}

INSTANTIATE_TEST_SUITE_P(Versions, ConversionsTest, testing::ValuesIn(all_cases()),
                         [](const auto& tested) {
                           return std::string(tested.param.version.fold.name) + "_" +
                                  std::string(name_of(tested.param.dtype));
                         });

TEST(ConversionTest, EveryLengthAndAlignmentKeepsWithinItsBounds) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (std::size_t elems = 0; elems <= 67; ++elems) {
      std::vector<float> in(elems, 1.5F);
      std::vector<std::byte> narrowed(2 * elems + 3, std::byte{0xA5});
      narrow_from_f32(dtype, in.data(), narrowed.data() + 1, elems);
      EXPECT_EQ(narrowed.front(), std::byte{0xA5});
      EXPECT_EQ(narrowed[2 * elems + 1], std::byte{0xA5});
      std::vector<float> back(elems + 1, -7.0F);
      widen_to_f32(dtype, narrowed.data() + 1, back.data(), elems);
      EXPECT_EQ(back.back(), -7.0F);
      back.pop_back();
      EXPECT_EQ(back, in);
    }
  }
}

TEST(ConversionTest, OtherTypesAreABugOfTheCaller) {
  float out = 0;
  const std::byte in[8]{};
  EXPECT_THROW(widen_to_f32(DType::kF64, in, &out, 1), Error);
}

}  // namespace
}  // namespace treadle
