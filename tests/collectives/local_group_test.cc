// The shared-memory collectives, stepped by the test: every interleaving of ranks that a seed
// gives, piece counters about to wrap, and ranks that call something else or sleep.
#include "collectives/local/local_group.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "core/error.h"

namespace treadle {
namespace {

constexpr std::size_t kWindow = 4096;
constexpr std::uint32_t kNearTheEnd = 0xFFFFFFFDU;

// Zeroed and aligned as a segment is.
class Segment {
 public:
  explicit Segment(std::size_t bytes) : words_(bytes / 64 + 1) {}
  Bytes bytes() { return std::as_writable_bytes(std::span(words_)); }

 private:
  struct alignas(64) Line {
    std::array<std::byte, 64> bytes{};
  };
  std::vector<Line> words_;
};

class Group {
 public:
  explicit Group(int ranks, std::uint32_t pieces_before = 0)
      : segment_(LocalGroup::segment_bytes(ranks, kWindow)) {
    LocalGroup::start_at(segment_.bytes(), ranks, pieces_before);
    for (int r = 0; r < ranks; ++r) {
      bells.push_back(std::make_shared<Doorbell>(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
    }
    for (int r = 0; r < ranks; ++r) {
      auto others = bells;
      others[static_cast<std::size_t>(r)] = nullptr;
      ranks_.push_back(std::make_unique<LocalGroup>(segment_.bytes(), r, ranks, kWindow, others));
    }
  }
  LocalGroup& operator[](std::size_t rank) { return *ranks_[rank]; }
  std::size_t size() const { return ranks_.size(); }
  // Whether it was rung since the last look.
  bool was_rung(std::size_t rank) const {
    std::uint64_t rings = 0;
    return ::read(bells[rank]->fd(), &rings, sizeof rings) > 0;
  }

  std::vector<std::shared_ptr<Doorbell>> bells;

 private:
  Segment segment_;
  std::vector<std::unique_ptr<LocalGroup>> ranks_;
};

using Values = std::vector<std::int32_t>;
ConstBytes in_bytes(const Values& values) { return std::as_bytes(std::span(values)); }
Bytes out_bytes(Values& values) { return std::as_writable_bytes(std::span(values)); }

// One call of all ranks: inputs, where the outputs go, and what must be there in the end.
struct Round {
  LocalKind kind;
  int root = 0;
  std::vector<Values> in;
  std::vector<Values> out;
  std::vector<Values> expected;
};

std::int32_t value_of(std::size_t rank, std::size_t index, std::uint32_t sequence) {
  return static_cast<std::int32_t>(rank * 1'000'003 + index * 7 + sequence * 13);
}

// `elems` are those of one block.
Round make_round(LocalKind kind, std::size_t ranks, std::size_t elems, std::uint32_t sequence) {
  Round round{.kind = kind,
              .root = static_cast<int>(sequence % ranks),
              .in = std::vector<Values>(ranks),
              .out = std::vector<Values>(ranks),
              .expected = std::vector<Values>(ranks)};
  const bool scatters = kind == LocalKind::kReduceScatter;
  const std::size_t in_elems = kind == LocalKind::kBarrier ? 0 : scatters ? ranks * elems : elems;
  Values sum(in_elems);
  Values joined;
  for (std::size_t r = 0; r < ranks; ++r) {
    for (std::size_t i = 0; i < in_elems; ++i) {
      round.in[r].push_back(value_of(r, i, sequence));
      sum[i] += round.in[r].back();
    }
    joined.insert(joined.end(), round.in[r].begin(), round.in[r].end());
  }
  for (std::size_t r = 0; r < ranks; ++r) {
    const auto at = [&](std::size_t block) {
      return sum.begin() + static_cast<std::ptrdiff_t>(block * elems);
    };
    Values& expected = round.expected[r];
    if (kind == LocalKind::kAllReduce) expected = sum;
    if (scatters) expected.assign(at(r), at(r + 1));
    if (kind == LocalKind::kAllGather) expected = joined;
    if (kind == LocalKind::kBroadcast) {
      expected = round.in[static_cast<std::size_t>(round.root)];
      round.out[r] = round.in[r];
    }
    round.out[r].resize(expected.size());
  }
  return round;
}

LocalCall call_of(Round& round, std::size_t rank, std::uint32_t sequence) {
  const FoldVersion& kernels = choose_fold("portable");
  return {.kind = round.kind,
          .in = in_bytes(round.in[rank]),
          .out = out_bytes(round.out[rank]),
          .dtype = DType::kI32,
          .op = ReduceOp::kSum,
          .scale = {},
          .root = round.root,
          .sequence = sequence,
          .description = {.call = Call::kAllReduce,
                          .dtype = DType::kI32,
                          .op = ReduceOp::kSum,
                          .root = static_cast<int>(round.kind) * 10 + round.root,
                          .elems = round.in[0].size(),
                          .override_hash = 0},
          .fold = kernels.fold(DType::kI32, ReduceOp::kSum)};
}

const std::vector<LocalKind> kKinds = {LocalKind::kAllReduce, LocalKind::kReduceScatter,
                                       LocalKind::kAllGather, LocalKind::kBroadcast,
                                       LocalKind::kBarrier};

struct Shape {
  std::size_t ranks;
  std::uint32_t pieces_before;
};
std::string shape_name(const testing::TestParamInfo<Shape>& tested) {
  return fmt::format("p{}_{}", tested.param.ranks,
                     tested.param.pieces_before == 0 ? "new" : "about_to_wrap");
}
void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.ranks << " ranks"; }

class LocalGroupTest : public testing::TestWithParam<Shape> {
 protected:
  // Calls of every kind and size, one after the other.
  std::vector<Round> all_rounds(std::uint32_t first) const {
    std::vector<Round> rounds;
    for (const std::size_t elems : {0, 1, 3, 1023, 1024, 1025, 5000, 20'000}) {
      for (const LocalKind kind : kKinds) {
        rounds.push_back(make_round(kind, GetParam().ranks, elems,
                                    first + static_cast<std::uint32_t>(rounds.size())));
      }
    }
    return rounds;
  }
};

// One thread steps a rank that chance chooses, so that ranks run ahead of each other as far as they
// can.
TEST_P(LocalGroupTest, EveryInterleavingGivesTheSameResults) {
  const std::size_t ranks = GetParam().ranks;
  const std::uint32_t first = GetParam().pieces_before == 0 ? 0 : kNearTheEnd;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    Group group(static_cast<int>(ranks), GetParam().pieces_before);
    auto rounds = all_rounds(first);
    std::vector<std::size_t> at(ranks, SIZE_MAX);  // each rank's round
    std::size_t finished = 0;
    std::size_t idle = 0;
    const auto begin_next = [&](std::size_t r) {
      if (++at[r] == rounds.size()) return static_cast<void>(++finished);
      group[r].begin(call_of(rounds[at[r]], r, first + static_cast<std::uint32_t>(at[r])));
    };
    for (std::size_t r = 0; r < ranks; ++r) begin_next(r);
    // A favourite gets most of the steps for a while.
    for (std::size_t step = 0; finished < ranks; ++step) {
      const std::size_t favourite = (step / 64 * 7 + seed) % ranks;
      const std::size_t r = random() % 4 != 0 ? favourite : random() % ranks;
      if (at[r] == rounds.size()) continue;
      const auto progress = group[r].step();
      ASSERT_LT(idle = progress == LocalGroup::Progress::kBlocked ? idle + 1 : 0, 100'000u)
          << "nobody moves";
      if (progress == LocalGroup::Progress::kDone) {
        EXPECT_EQ(rounds[at[r]].out[r], rounds[at[r]].expected[r])
            << "seed " << seed << " round " << at[r] << " rank " << r;
        begin_next(r);
      }
    }
  }
}

TEST_P(LocalGroupTest, InPlaceIsTheSame) {
  const std::size_t ranks = GetParam().ranks;
  Group group(static_cast<int>(ranks), GetParam().pieces_before);
  for (std::uint32_t sequence = 0; sequence < 3; ++sequence) {
    for (const std::size_t elems : {5, 12'000}) {
      auto round = make_round(LocalKind::kAllReduce, ranks, elems, sequence);
      round.out = round.in;
      for (std::size_t r = 0; r < ranks; ++r) {
        auto call = call_of(round, r, 2 * sequence + (elems == 5 ? 0 : 1));
        call.in = call.out;
        group[r].begin(call);
      }
      std::vector<bool> done(ranks, false);
      while (std::ranges::count(done, true) < static_cast<std::ptrdiff_t>(ranks)) {
        for (std::size_t r = 0; r < ranks; ++r) {
          if (!done[r]) done[r] = group[r].step() == LocalGroup::Progress::kDone;
        }
      }
      EXPECT_EQ(round.out, round.expected);
    }
  }
}

// What a thread sanitiser looks at.
TEST_P(LocalGroupTest, RanksInThreadsAgree) {
  const std::size_t ranks = GetParam().ranks;
  Group group(static_cast<int>(ranks), GetParam().pieces_before);
  auto rounds = all_rounds(0);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      for (std::uint32_t sequence = 0; sequence < rounds.size(); ++sequence) {
        group[r].begin(call_of(rounds[sequence], r, sequence));
        while (true) {
          const auto progress = group[r].step();
          if (progress == LocalGroup::Progress::kDone) break;
          if (progress == LocalGroup::Progress::kBlocked) std::this_thread::yield();
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const Round& round : rounds) EXPECT_EQ(round.out, round.expected);
}

INSTANTIATE_TEST_SUITE_P(Ranks, LocalGroupTest,
                         testing::Values(Shape{1, 0}, Shape{2, 0}, Shape{3, 0}, Shape{5, 0},
                                         Shape{2, kNearTheEnd}, Shape{3, kNearTheEnd}),
                         shape_name);

void run_alone(LocalGroup& rank) {
  while (rank.step() == LocalGroup::Progress::kMoved) {
  }
}

TEST(LocalGroupAloneTest, NamesWhoIsMissing) {
  Group group(3);
  auto round = make_round(LocalKind::kAllReduce, 3, 10, 0);
  group[1].begin(call_of(round, 1, 0));
  run_alone(group[1]);
  EXPECT_EQ(group[1].missing(), (std::vector<int>{0, 2}));
  EXPECT_EQ(group[1].done_bytes(), 0u);
  group[2].begin(call_of(round, 2, 0));
  EXPECT_EQ(group[1].missing(), std::vector<int>{0});
  group[0].begin(call_of(round, 0, 0));
  EXPECT_TRUE(group[1].missing().empty());
  EXPECT_FALSE(group[1].mismatch());
}

// A rank that is one call ahead has called this one, too.
TEST(LocalGroupAloneTest, WhoIsAheadIsNotMissing) {
  Group group(2);
  std::array rounds = {make_round(LocalKind::kBroadcast, 2, 10, 0),
                       make_round(LocalKind::kBroadcast, 2, 10, 2)};
  for (std::uint32_t sequence : {0U, 1U}) {
    group[0].begin(call_of(rounds[sequence], 0, sequence));
    run_alone(group[0]);
  }
  group[1].begin(call_of(rounds[0], 1, 0));
  EXPECT_TRUE(group[1].missing().empty());
  EXPECT_EQ(group[0].missing(), std::vector<int>{1});
}

TEST(LocalGroupAloneTest, ShowsWhatTheOtherCalledAndUsesNothingOfIt) {
  for (const LocalKind kind : kKinds) {
    Group group(2);
    auto mine = make_round(kind, 2, 100, 0);
    auto theirs = make_round(kind, 2, 101, 0);
    const auto untouched = mine.out;
    group[0].begin(call_of(mine, 0, 0));
    auto other = call_of(theirs, 1, 0);
    other.description.elems = 4711;
    group[1].begin(other);
    for (int i = 0; i < 4; ++i) {
      run_alone(group[0]);
      run_alone(group[1]);
    }
    const auto seen = group[0].mismatch();
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->index, 1);
    EXPECT_EQ(seen->theirs, other.description);
    ASSERT_TRUE(group[1].mismatch());
    EXPECT_EQ(group[1].mismatch()->theirs.elems, mine.in[0].size());
    // The root of a broadcast needs nobody.
    EXPECT_EQ(mine.out, untouched);
  }
}

TEST(LocalGroupAloneTest, RingsOnlyThoseWhoSleep) {
  Group group(3);
  auto round = make_round(LocalKind::kAllReduce, 3, 10, 0);
  group[1].announce_sleep(true);
  group[0].begin(call_of(round, 0, 0));
  run_alone(group[0]);
  EXPECT_TRUE(group.was_rung(1));
  EXPECT_FALSE(group.was_rung(2));
  group[1].announce_sleep(false);
  group[2].begin(call_of(round, 2, 0));
  run_alone(group[2]);
  EXPECT_FALSE(group.was_rung(1));
  EXPECT_FALSE(group.was_rung(0));
}

TEST(LocalGroupAloneTest, ASegmentThatIsTooSmallIsABug) {
  Segment segment(LocalGroup::segment_bytes(2, kWindow) - 64);
  EXPECT_THROW(LocalGroup(segment.bytes().first(LocalGroup::segment_bytes(2, kWindow) - 1), 0, 2,
                          kWindow, std::vector<std::shared_ptr<Doorbell>>(2)),
               Error);
}

// Whatever another process writes into its own words, nothing but an Error comes of it.
TEST(LocalGroupAloneTest, NonsenseInThePeersWordsHarmsNobody) {
  for (std::uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    Segment segment(LocalGroup::segment_bytes(2, kWindow));
    const auto bell = std::make_shared<Doorbell>(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    LocalGroup rank(segment.bytes(), 0, 2, kWindow, {nullptr, bell});
    auto round = make_round(kKinds[seed % kKinds.size()], 2, 3000, 0);
    rank.begin(call_of(round, 0, 0));
    for (int i = 0; i < 50; ++i) {
      Bytes words = segment.bytes().subspan(256, 256);
      const auto value = random();
      std::memcpy(words.data() + random() % 63 * 4, &value, 4);
      try {
        if (rank.step() == LocalGroup::Progress::kDone) break;
        rank.mismatch();
        rank.missing();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      }
    }
  }
}

}  // namespace
}  // namespace treadle
