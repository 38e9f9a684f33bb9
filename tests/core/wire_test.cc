#include "core/wire.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace treadle {
namespace {

using Raw = std::vector<std::uint8_t>;

Raw raw(ConstBytes bytes) {
  Raw out;
  for (const std::byte b : bytes) out.push_back(std::to_integer<std::uint8_t>(b));
  return out;
}

ErrorCode code_of(auto&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kUnsupported;
}

enum class Colour : std::uint16_t { kRed = 0x0102 };

TEST(WireWriterTest, WritesLittleEndianOneAfterTheOther) {
  std::array<std::byte, 15> out{};
  WireWriter w(out);
  w.put(std::uint8_t{0xAB});
  w.put(std::uint32_t{0x01020304});
  w.put(std::int64_t{-2});
  w.put(Colour::kRed);
  EXPECT_EQ(w.written_bytes(), 15U);
  EXPECT_EQ(raw(out),
            (Raw{0xAB, 4, 3, 2, 1, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 1}));
}

TEST(WireWriterTest, PastTheEndIsABugAndWritesNothing) {
  std::array<std::byte, 5> out{};
  WireWriter w(Bytes(out).first(3));
  w.put(std::uint16_t{0xFFFF});
  EXPECT_EQ(code_of([&] { w.put(std::uint16_t{0xFFFF}); }), ErrorCode::kBug);
  EXPECT_EQ(raw(out), (Raw{0xFF, 0xFF, 0, 0, 0}));
  w.put(std::uint8_t{1});  // what fits still does
  EXPECT_EQ(w.written_bytes(), 3U);
}

TEST(WireBufferTest, FieldsHaveALengthInFront) {
  WireBuffer w;
  w.put(std::uint8_t{7});
  w.put_string("ab");
  w.put_bytes({});
  EXPECT_EQ(raw(w.bytes()), (Raw{7, 2, 0, 0, 0, 'a', 'b', 0, 0, 0, 0}));
  EXPECT_EQ(w.take().size(), 11U);
}

TEST(WireReaderTest, ReadsBackWhatWasWritten) {
  WireBuffer w;
  w.put(3.25);
  w.put(std::numeric_limits<std::int64_t>::min());
  w.put_string("loom");
  w.put(Colour::kRed);
  WireReader r(w.bytes());
  EXPECT_EQ(r.get<double>(), 3.25);
  EXPECT_EQ(r.get<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(r.left_bytes(), 10U);
  EXPECT_EQ(r.get_string(4), "loom");
  EXPECT_EQ(r.get<Colour>(), Colour::kRed);
  EXPECT_EQ(r.left_bytes(), 0U);
}

TEST(WireReaderTest, EveryTruncationIsCorrupt) {
  WireBuffer w;
  w.put(std::uint32_t{1});
  w.put_string("thread");
  w.put(std::uint16_t{2});
  const ConstBytes whole(w.bytes());
  const auto read_all = [](ConstBytes bytes) {
    WireReader r(bytes);
    r.get<std::uint32_t>();
    r.get_string(100);
    r.get<std::uint16_t>();
  };
  EXPECT_NO_THROW(read_all(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(code_of([&] { read_all(whole.first(size)); }), ErrorCode::kCorrupt) << size;
  }
}

TEST(WireReaderTest, LengthsBeyondTheAllowedOneAreCorrupt) {
  WireBuffer w;
  w.put_string("four");
  EXPECT_EQ(WireReader(w.bytes()).get_string(4), "four");
  EXPECT_EQ(code_of([&] { WireReader(w.bytes()).get_string(3); }), ErrorCode::kCorrupt);
}

TEST(WireReaderTest, HugeLengthsDoNotOverflow) {
  WireBuffer w;
  w.put(std::numeric_limits<std::uint32_t>::max());
  w.put(std::uint64_t{0});
  EXPECT_EQ(code_of([&] { WireReader(w.bytes()).get_bytes(SIZE_MAX); }), ErrorCode::kCorrupt);
}

TEST(WireReaderTest, FieldsAreViewsOfTheInput) {
  WireBuffer w;
  w.put_string("xyz");
  const ConstBytes whole(w.bytes());
  EXPECT_EQ(WireReader(whole).get_bytes(3).data(), whole.data() + 4);
}

}  // namespace
}  // namespace treadle
