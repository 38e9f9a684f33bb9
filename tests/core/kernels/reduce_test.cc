// The portable version against a plain reference, and every other version against the portable one,
// byte for byte.
#include "core/kernels/reduce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/core/kernels/fold_inputs.h"
#include "tests/core/kernels/fold_reference.h"

namespace treadle {
namespace {

using testing::HasSubstr;

const FoldVersion& portable() { return choose_fold("portable"); }

// Scales that change something where the operator takes one.
Scale scale_of(ReduceOp op, int inputs) {
  if (op == ReduceOp::kAvg) return {.before = 1.0, .divisor = static_cast<double>(inputs)};
  if (op == ReduceOp::kPremulSum) return {.before = 0.3, .divisor = 1.0};
  return {};
}

std::vector<std::byte> folded(const FoldVersion& version, DType dtype, ReduceOp op,
                              const Inputs& inputs, std::size_t elems, std::size_t offset = 0) {
  GuardedBuffer out(elems * size_of(dtype), offset);
  version.fold(dtype, op)(out.data(), inputs.pointers.data(), inputs.count(), elems,
                          scale_of(op, inputs.count()));
  EXPECT_TRUE(out.guards_are_untouched());
  return out.content();
}

class FoldTest : public testing::TestWithParam<DType> {};

TEST_P(FoldTest, PortableEqualsReference) {
  const DType dtype = GetParam();
  const std::size_t elems = 3000;  // more than one block
  for (const ReduceOp op : ops_of(dtype)) {
    for (const int count : {2, 3, 5, 8}) {
      SCOPED_TRACE(testing::Message() << name_of(op) << " of " << count);
      const Inputs inputs(dtype, count, elems, 0, 17);
      EXPECT_EQ(folded(portable(), dtype, op, inputs, elems),
                reference::fold(dtype, op, inputs.pointers, elems, scale_of(op, count)));
    }
  }
}

TEST_P(FoldTest, VersionsEqualPortableAtEveryLengthAndAlignment) {
  const DType dtype = GetParam();
  for (const ReduceOp op : ops_of(dtype)) {
    for (const int count : {1, 2, 3, 5, 8}) {
      for (std::size_t elems = 0; elems <= 67; ++elems) {
        const std::size_t offset = std::size_t{1} << elems % 6;
        for (const std::size_t at : {std::size_t{0}, offset, offset + 1}) {
          const Inputs inputs(dtype, count, elems, at, static_cast<std::uint32_t>(elems + 1));
          const auto expected = folded(portable(), dtype, op, inputs, elems);
          for (const FoldVersion& version : fold_versions()) {
            if (!version.runs_here()) continue;
            ASSERT_EQ(folded(version, dtype, op, inputs, elems, at), expected)
                << version.name << ", " << name_of(op) << " of " << count << " inputs of " << elems
                << " elements, " << at << " bytes misaligned";
          }
        }
      }
    }
  }
}

TEST_P(FoldTest, VersionsEqualPortableAcrossBlocks) {
  const DType dtype = GetParam();
  for (const ReduceOp op : ops_of(dtype)) {
    for (const int count : {2, 4, 5}) {
      for (const std::size_t elems : {127U, 128U, 129U, 256U, 257U, 1024U, 1025U, 3001U}) {
        const Inputs inputs(dtype, count, elems, 1, static_cast<std::uint32_t>(elems));
        const auto expected = folded(portable(), dtype, op, inputs, elems);
        for (const FoldVersion& version : fold_versions()) {
          if (!version.runs_here()) continue;
          ASSERT_EQ(folded(version, dtype, op, inputs, elems), expected)
              << version.name << ", " << name_of(op) << " of " << count << " inputs of " << elems;
        }
      }
    }
  }
}

TEST_P(FoldTest, OutputMayBeAnyInput) {
  const DType dtype = GetParam();
  for (const FoldVersion& version : fold_versions()) {
    if (!version.runs_here()) continue;
    for (const ReduceOp op : ops_of(dtype)) {
      for (const int count : {1, 2, 3, 5}) {
        for (const std::size_t elems : {1U, 63U, 2500U}) {
          for (int same = 0; same < count; ++same) {
            Inputs inputs(dtype, count, elems, 3, 5);
            const auto expected = folded(version, dtype, op, inputs, elems);
            GuardedBuffer& out = inputs.buffers[static_cast<std::size_t>(same)];
            version.fold(dtype, op)(out.data(), inputs.pointers.data(), count, elems,
                                    scale_of(op, count));
            ASSERT_EQ(out.content(), expected)
                << version.name << ", " << name_of(op) << " of " << count << " inputs of " << elems
                << " elements onto input " << same;
            EXPECT_TRUE(out.guards_are_untouched());
          }
        }
      }
    }
  }
}

TEST_P(FoldTest, InputsStayUnchanged) {
  const DType dtype = GetParam();
  for (const FoldVersion& version : fold_versions()) {
    if (!version.runs_here()) continue;
    for (const ReduceOp op : ops_of(dtype)) {
      const Inputs inputs(dtype, 3, 1500, 0, 23);
      const Inputs twin(dtype, 3, 1500, 0, 23);
      folded(version, dtype, op, inputs, 1500);
      for (std::size_t p = 0; p < 3; ++p) {
        EXPECT_EQ(inputs.buffers[p].content(), twin.buffers[p].content()) << name_of(op);
      }
    }
  }
}

// Not even a NaN's payload changes. (bool: true becomes 1, which reference values are already.)
TEST_P(FoldTest, OneInputIsCopied) {
  const DType dtype = GetParam();
  const Inputs inputs(dtype, 1, 500, 1, 31);
  auto expected = inputs.buffers[0].content();
  if (dtype == DType::kBool) {
    for (std::byte& b : expected) b = b == std::byte{0} ? std::byte{0} : std::byte{1};
  }
  for (const FoldVersion& version : fold_versions()) {
    if (!version.runs_here()) continue;
    for (const ReduceOp op : ops_of(dtype)) {
      GuardedBuffer out(expected.size(), 0);
      version.fold(dtype, op)(out.data(), inputs.pointers.data(), 1, 500, Scale{});
      EXPECT_EQ(out.content(), expected) << version.name << " " << name_of(op);
    }
  }
}

TEST_P(FoldTest, UnsupportedCellsAreNull) {
  const DType dtype = GetParam();
  for (const FoldVersion& version : fold_versions()) {
    for (const ReduceOp op : all_ops()) {
      EXPECT_EQ(version.fold(dtype, op) != nullptr, supports(op, dtype))
          << version.name << " " << name_of(op);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, FoldTest, testing::ValuesIn(all_dtypes()), dtype_name);

TEST(FoldVersionsTest, PortableIsLastAndRunsEverywhere) {
  ASSERT_FALSE(fold_versions().empty());
  EXPECT_EQ(fold_versions().back().name, "portable");
  EXPECT_TRUE(fold_versions().back().runs_here());
}

TEST(FoldVersionsTest, AutoTakesTheFirstThatRunsHere) {
  const FoldVersion& chosen = choose_fold("auto");
  EXPECT_TRUE(chosen.runs_here());
  for (const FoldVersion& version : fold_versions()) {
    if (version.name == chosen.name) break;
    EXPECT_FALSE(version.runs_here()) << version.name << " is faster and runs here";
  }
}

TEST(FoldVersionsTest, UnknownNameIsRefusedWithTheKnownOnes) {
  try {
    choose_fold("abacus");
    FAIL() << "there is no such version";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("'abacus'"));
    EXPECT_THAT(error.what(), HasSubstr("portable"));
  }
}

}  // namespace
}  // namespace treadle
