// The bytes and the fingerprint are frozen: ranks of another build must read and compare them.
#include "collectives/description.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include "core/error.h"

namespace treadle {
namespace {

using Raw = std::array<std::uint8_t, Description::kEncodedBytes>;

const Description kDescription = {.call = Call::kReduce,
                                  .dtype = DType::kBF16,
                                  .op = ReduceOp::kPremulSum,
                                  .root = 0x01020304,
                                  .elems = 0x1112131415161718,
                                  .override_hash = 0x2122232425262728};

// clang-format off
constexpr Raw kFrozen = {
    4, 3, 8, 0,                                      // call, dtype, op, reserved
    4, 3, 2, 1,                                      // root
    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // elems
    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,  // override
};
// clang-format on

Raw raw(const Description& description) {
  Raw out{};
  std::ranges::transform(encode(description), out.begin(),
                         [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
  return out;
}
Description decoded(std::span<const std::uint8_t> bytes) {
  return decode_description(std::as_bytes(bytes));
}

void expect_corrupt(std::span<const std::uint8_t> bytes, const char* what) {
  try {
    decoded(bytes);
    ADD_FAILURE() << what << " was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorrupt) << error.what();
  }
}

TEST(DescriptionTest, BytesAreFrozen) {
  EXPECT_EQ(raw(kDescription), kFrozen);
  EXPECT_EQ(decoded(kFrozen), kDescription);
}

TEST(DescriptionTest, EveryCallDTypeAndOperatorSurvivesTheRoundTrip) {
  for (int call = 0; call <= kLastCall; ++call) {
    for (int dtype = 0; dtype < kDTypes; ++dtype) {
      for (int op = 0; op < kReduceOps; ++op) {
        const Description d = {.call = static_cast<Call>(call),
                               .dtype = static_cast<DType>(dtype),
                               .op = static_cast<ReduceOp>(op),
                               .root = -1,
                               .elems = std::numeric_limits<std::uint64_t>::max(),
                               .override_hash = 0};
        ASSERT_EQ(decoded(raw(d)), d) << call << " " << dtype << " " << op;
      }
    }
  }
}

TEST(DescriptionTest, EveryCallHasItsNumber) {
  EXPECT_EQ(static_cast<int>(Call::kAllReduce), 0);
  EXPECT_EQ(static_cast<int>(Call::kBroadcast), 1);
  EXPECT_EQ(static_cast<int>(Call::kAllGather), 2);
  EXPECT_EQ(static_cast<int>(Call::kReduceScatter), 3);
  EXPECT_EQ(static_cast<int>(Call::kReduce), 4);
  EXPECT_EQ(static_cast<int>(Call::kGather), 5);
  EXPECT_EQ(static_cast<int>(Call::kScatter), 6);
  EXPECT_EQ(static_cast<int>(Call::kAllToAll), 7);
  EXPECT_EQ(static_cast<int>(Call::kBarrier), 8);
  EXPECT_EQ(static_cast<int>(Call::kPointToPoint), 9);
  EXPECT_EQ(kLastCall, 9);
}

TEST(DescriptionTest, EveryTruncationIsCorrupt) {
  for (std::size_t size = 0; size < kFrozen.size(); ++size) {
    expect_corrupt(std::span(kFrozen).first(size), "a truncated description");
  }
}

TEST(DescriptionTest, UnknownNumbersAndReservedBytesAreCorrupt) {
  const auto with = [](std::size_t at, int value) {
    Raw bad = kFrozen;
    bad[at] = static_cast<std::uint8_t>(value);
    return bad;
  };
  for (const int value : {kLastCall + 1, 255}) expect_corrupt(with(0, value), "a call");
  for (const int value : {kDTypes, 255}) expect_corrupt(with(1, value), "a dtype");
  for (const int value : {kReduceOps, 255}) expect_corrupt(with(2, value), "an operator");
  expect_corrupt(with(3, 1), "a reserved byte");
}

TEST(FingerprintTest, IsFrozen) {
  EXPECT_EQ(Description{}.fingerprint(), 0x975A67E1C55B4C06U);
  EXPECT_EQ(kDescription.fingerprint(), 0x8C3DF11776C4F0BCU);
}

TEST(FingerprintTest, EveryFieldCounts) {
  std::vector<Description> variants(7, kDescription);
  variants[1].call = Call::kAllReduce;
  variants[2].dtype = DType::kF32;
  variants[3].op = ReduceOp::kSum;
  variants[4].root = -1;
  variants[5].elems += 1;
  variants[6].override_hash += 1;
  std::set<std::uint64_t> fingerprints;
  for (const Description& d : variants) fingerprints.insert(d.fingerprint());
  EXPECT_EQ(fingerprints.size(), variants.size());
}

// Neighbours in size and root, which mistaken ranks differ by, never collide here; and none is 0.
TEST(FingerprintTest, NearDescriptionsDiffer) {
  std::set<std::uint64_t> fingerprints;
  std::size_t described = 0;
  for (std::uint64_t elems = 0; elems < 2000; ++elems) {
    for (std::int32_t root = -1; root < 15; ++root) {
      Description d = kDescription;
      d.elems = elems;
      d.root = root;
      fingerprints.insert(d.fingerprint());
      ++described;
    }
  }
  EXPECT_EQ(fingerprints.size(), described);
  EXPECT_FALSE(fingerprints.contains(0));
}

TEST(DescriptionTextTest, NamesWhatMatters) {
  Description d = {
      .call = Call::kAllReduce, .dtype = DType::kF32, .op = ReduceOp::kSum, .elems = 1024};
  EXPECT_EQ(d.text(), "all_reduce of 1024 x f32, sum");
  d.override_hash = 0xAB;
  EXPECT_EQ(d.text(), "all_reduce of 1024 x f32, sum, override 0xab");
  d = {.call = Call::kBroadcast, .dtype = DType::kU8, .root = 2, .elems = 7};
  EXPECT_EQ(d.text(), "broadcast of 7 x u8, root 2");
  EXPECT_EQ(Description{}.text(), "barrier");
}

}  // namespace
}  // namespace treadle
