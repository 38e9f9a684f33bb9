#include "transport/ring.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kCapacity = 64;

// Ring memory with guard bytes on both sides.
class RingMemory {
 public:
  explicit RingMemory(std::size_t capacity_bytes = kCapacity)
      : ring_bytes_(ring_bytes(capacity_bytes)),
        all_(static_cast<std::byte*>(::operator new(ring_bytes_ + 2 * kGuard, kLine))) {
    std::memset(all_, 0x5a, ring_bytes_ + 2 * kGuard);
    std::memset(all_ + kGuard, 0, ring_bytes_);
  }
  ~RingMemory() {
    for (std::size_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(all_[i], std::byte{0x5a}) << "written in front of the ring";
      EXPECT_EQ(all_[kGuard + ring_bytes_ + i], std::byte{0x5a}) << "written behind the ring";
    }
    ::operator delete(all_, kLine);
  }
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;

  Bytes bytes() { return {all_ + kGuard, ring_bytes_}; }
  // By its number in the layout of ring.h.
  std::uint32_t& word(std::size_t index) {
    return reinterpret_cast<std::uint32_t*>(bytes().data())[index];
  }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr std::align_val_t kLine{64};
  const std::size_t ring_bytes_;
  std::byte* all_;
};

constexpr std::size_t kTail = 0;
constexpr std::size_t kHead = 16;

std::size_t write(RingWriter& ring, std::string_view text) {
  const std::array pieces = {iovec{const_cast<char*>(text.data()), text.size()}};
  return ring.try_write(pieces);
}

std::string read(RingReader& ring, std::size_t bytes = 1000) {
  std::string text(bytes, '?');
  const std::array pieces = {iovec{text.data(), text.size()}};
  text.resize(ring.try_read(pieces));
  return text;
}

TEST(RingTest, BytesComeOutInOrder) {
  RingMemory memory;
  RingWriter writer(memory.bytes());
  RingReader reader(memory.bytes());
  EXPECT_EQ(read(reader), "");
  EXPECT_EQ(write(writer, "one"), 3u);
  EXPECT_EQ(write(writer, "two"), 3u);
  EXPECT_EQ(reader.readable_bytes(), 6u);
  EXPECT_EQ(read(reader, 4), "onet");
  EXPECT_EQ(read(reader), "wo");
  EXPECT_EQ(read(reader), "");
}

TEST(RingTest, TakesWhatFits) {
  RingMemory memory;
  RingWriter writer(memory.bytes());
  RingReader reader(memory.bytes());
  EXPECT_EQ(write(writer, std::string(100, 'x')), kCapacity);
  EXPECT_EQ(writer.writable_bytes(), 0u);
  EXPECT_EQ(write(writer, "y"), 0u);
  EXPECT_EQ(read(reader, 10).size(), 10u);
  EXPECT_EQ(write(writer, std::string(100, 'y')), 10u);
  EXPECT_EQ(read(reader), std::string(54, 'x') + std::string(10, 'y'));
}

TEST(RingTest, GathersAndScatters) {
  RingMemory memory;
  RingWriter writer(memory.bytes());
  RingReader reader(memory.bytes());
  std::string a = "abc", empty, b = "defgh";
  const std::array out = {iovec{a.data(), a.size()}, iovec{empty.data(), 0},
                          iovec{b.data(), b.size()}};
  EXPECT_EQ(writer.try_write(out), 8u);
  std::string c(5, '?'), d(5, '?');
  const std::array in = {iovec{c.data(), 5}, iovec{d.data(), 5}};
  EXPECT_EQ(reader.try_read(in), 8u);
  EXPECT_EQ(c, "abcde");
  EXPECT_EQ(d, "fgh??");
}

// Every length at every place, with the positions going over the end of 32 bits.
TEST(RingTest, PositionsWrapAround) {
  RingMemory memory;
  memory.word(kTail) = memory.word(kHead) = 0U - 10'000U;
  RingWriter writer(memory.bytes());
  RingReader reader(memory.bytes());
  char next = 0;
  for (std::size_t round = 0; round < 1000; ++round) {
    std::string text;
    for (std::size_t i = 0; i < round % (kCapacity + 1); ++i) text += next++;
    ASSERT_EQ(write(writer, text), text.size());
    ASSERT_EQ(writer.writable_bytes(), kCapacity - text.size());
    ASSERT_EQ(read(reader), text);
  }
  EXPECT_LT(memory.word(kTail), 0U - 10'000U) << "it has not wrapped";
}

TEST(RingTest, ANonsensicalPositionOfThePeerIsCorrupt) {
  for (const std::uint32_t nonsense : {65U, 1064U, 0x80000000U, 0xffffffffU}) {
    RingMemory memory;
    RingWriter writer(memory.bytes());
    RingReader reader(memory.bytes());
    memory.word(kTail) = nonsense;
    try {
      read(reader);
      FAIL() << "read with the writer at " << nonsense;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
    }
    EXPECT_THROW(reader.readable_bytes(), Error);
    memory.word(kHead) = 0U - nonsense;
    EXPECT_THROW(write(writer, "x"), Error);
    EXPECT_THROW(writer.writable_bytes(), Error);
  }
}

// Whatever the peer writes into all words, nothing outside the ring is touched (see RingMemory).
TEST(RingTest, HostileWordsNeverLeadOutside) {
  std::mt19937 random(1);
  const auto any = [&] { return static_cast<std::uint32_t>(random()); };
  for (int round = 0; round < 2000; ++round) {
    RingMemory memory;
    RingWriter writer(memory.bytes());
    RingReader reader(memory.bytes());
    for (int step = 0; step < 8; ++step) {
      const std::uint32_t near = any() % 200 - 50;
      memory.word(random() % 2 == 0 ? kTail : kHead) = any() % 2 == 0 ? near : any();
      try {
        write(writer, std::string(random() % 100, 'x'));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      }
      try {
        EXPECT_LE(read(reader, random() % 100).size(), kCapacity);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      }
    }
  }
}

// A side's own published position is its own: overwriting it does not move that side.
TEST(RingTest, OwnPositionIsNotReadBack) {
  RingMemory memory;
  RingWriter writer(memory.bytes());
  RingReader reader(memory.bytes());
  EXPECT_EQ(write(writer, "abc"), 3u);
  memory.word(kTail) = 40;
  EXPECT_EQ(write(writer, "def"), 3u);
  EXPECT_EQ(read(reader), "abcdef");
}

TEST(RingTest, TellsWhoSleepsWaitsAndHasClosed) {
  RingMemory memory;
  RingWriter writer(memory.bytes());
  RingReader reader(memory.bytes());
  EXPECT_FALSE(writer.reader_wants_ring());
  reader.set_asleep(true);
  EXPECT_TRUE(writer.reader_wants_ring());
  reader.set_asleep(false);
  EXPECT_FALSE(writer.reader_wants_ring());
  EXPECT_FALSE(reader.writer_wants_ring());
  writer.set_waiting(true);
  EXPECT_TRUE(reader.writer_wants_ring());
  writer.set_waiting(false);
  EXPECT_FALSE(reader.writer_wants_ring());
  EXPECT_FALSE(reader.writer_closed());
  writer.close();
  EXPECT_TRUE(reader.writer_closed());
  EXPECT_FALSE(writer.reader_closed());
  reader.close();
  EXPECT_TRUE(writer.reader_closed());
}

TEST(RingTest, RefusesMemoryThatIsNoRing) {
  RingMemory memory(256);
  for (const std::size_t bytes : {0UL, 127UL, 128UL, 131UL, 128UL + 63}) {
    EXPECT_THROW(RingWriter(memory.bytes().first(bytes)), Error) << bytes;
  }
  EXPECT_THROW(RingReader(memory.bytes().subspan(32, ring_bytes(64))), Error) << "misaligned";
}

// One thread each, in pieces of changing size; TSan checks that the positions order the bytes.
TEST(RingTest, TwoThreadsPassEveryByte) {
  RingMemory memory(1 << 10);
  constexpr std::uint32_t kWords = 100'000;
  std::thread producer([&] {
    RingWriter writer(memory.bytes());
    std::vector<std::uint32_t> words(kWords);
    for (std::uint32_t i = 0; i < kWords; ++i) words[i] = i * 2654435761U;
    auto left = std::as_writable_bytes(std::span(words));
    for (std::size_t step = 1; !left.empty(); step = step % 700 + 13) {
      const std::array pieces = {iovec{left.data(), std::min(step, left.size())}};
      const auto wrote = writer.try_write(pieces);
      left = left.subspan(wrote);
      if (wrote == 0) std::this_thread::yield();
    }
    writer.close();
  });
  RingReader reader(memory.bytes());
  std::vector<std::uint32_t> words(kWords + 1);
  auto left = std::as_writable_bytes(std::span(words));
  for (std::size_t step = 1;; step = step % 900 + 17) {
    const bool closed = reader.writer_closed();
    const std::array pieces = {iovec{left.data(), std::min(step, left.size())}};
    const auto got = reader.try_read(pieces);
    left = left.subspan(got);
    if (got == 0 && closed) break;
    if (got == 0) std::this_thread::yield();
  }
  producer.join();
  ASSERT_EQ(left.size(), sizeof(std::uint32_t)) << "not every byte, or too many";
  for (std::uint32_t i = 0; i < kWords; ++i) ASSERT_EQ(words[i], i * 2654435761U) << i;
}

// Ping-pong with real sleeping: a lost wake-up makes this hang, and the test's time limit fail it.
TEST(RingTest, NoWakeUpIsLost) {
  RingMemory there(kCapacity), back(kCapacity);
  std::array<std::atomic<std::uint32_t>, 2> bells{};
  const auto receive = [](RingReader& ring, std::atomic<std::uint32_t>& bell) {
    while (true) {
      const auto heard = bell.load();
      char byte = 0;
      const std::array pieces = {iovec{&byte, 1}};
      if (ring.try_read(pieces) == 1) return byte;
      ring.set_asleep(true);
      if (ring.readable_bytes() == 0) bell.wait(heard);
      ring.set_asleep(false);
    }
  };
  const auto send = [](RingWriter& ring, std::atomic<std::uint32_t>& bell, char byte) {
    const std::array pieces = {iovec{&byte, 1}};
    ASSERT_EQ(ring.try_write(pieces), 1u);
    if (!ring.reader_wants_ring()) return;
    ++bell;
    bell.notify_one();
  };
  constexpr int kRounds = 5000;
  std::thread echo([&] {
    RingReader in(there.bytes());
    RingWriter out(back.bytes());
    for (int i = 0; i < kRounds; ++i) send(out, bells[0], receive(in, bells[1]));
  });
  RingWriter out(there.bytes());
  RingReader in(back.bytes());
  for (int i = 0; i < kRounds; ++i) {
    send(out, bells[1], static_cast<char>(i));
    ASSERT_EQ(receive(in, bells[0]), static_cast<char>(i));
  }
  echo.join();
}

}  // namespace
}  // namespace treadle
