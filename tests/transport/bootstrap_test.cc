#include "transport/bootstrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <numeric>
#include <thread>

#include "core/error.h"
#include "tests/code_of.h"

namespace treadle {
namespace {

using testing::HasSubstr;

ConstBytes bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

PeerInfo info_of(int rank, std::uint64_t nonce = 1) {
  return {.nonce = nonce * 1000 + static_cast<std::uint64_t>(rank),
          .host_id = 7,
          .settings = {{"TREADLE_TRANSPORT", "tcp"}},
          .addresses = {{"shm", "@somewhere"}, {"tcp", std::string("\0\1\2", 3)}}};
}

// ---- the formats ----

TEST(PeerInfoTest, HasFrozenBytes) {
  const PeerInfo info{
      .nonce = 0x0102030405060708, .host_id = 9, .settings = {{"a", "bc"}}, .addresses = {}};
  const std::string expected(
      "\x01\x00\xe1\x7d"
      "\x08\x07\x06\x05\x04\x03\x02\x01"
      "\x09\x00\x00\x00\x00\x00\x00\x00"
      "\x01\x00\x00\x00"
      "\x01\x00\x00\x00"
      "a"
      "\x02\x00\x00\x00"
      "bc"
      "\x00\x00\x00\x00",
      39);
  EXPECT_EQ(encode(info), expected);
  EXPECT_EQ(decode_peer_info(bytes_of(expected)), info);
}

TEST(PeerInfoTest, EveryTruncationAndOversizeIsCorrupt) {
  const std::string whole = encode(info_of(3));
  EXPECT_EQ(decode_peer_info(bytes_of(whole)), info_of(3));
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const std::string part = whole.substr(0, bytes);
    EXPECT_EQ(code_of([&] { decode_peer_info(bytes_of(part)); }), ErrorCode::kCorrupt) << bytes;
  }
  // The format, the number of pairs and the length of the first text.
  for (const std::size_t at : {0, 20, 24}) {
    std::string changed = whole;
    changed[at + 3] = '\x7f';
    EXPECT_EQ(code_of([&] { decode_peer_info(bytes_of(changed)); }), ErrorCode::kCorrupt) << at;
  }
}

TEST(RosterTest, RoundTripsAndRefusesOtherSizes) {
  const Roster roster{.run_id = 42, .peers = {info_of(0), info_of(1), info_of(2)}};
  const std::string whole = encode(roster);
  EXPECT_EQ(decode_roster(bytes_of(whole), 3), roster);
  for (const int ranks : {1, 2, 4}) {
    EXPECT_EQ(code_of([&] { decode_roster(bytes_of(whole), ranks); }), ErrorCode::kCorrupt);
  }
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const std::string part = whole.substr(0, bytes);
    EXPECT_EQ(code_of([&] { decode_roster(bytes_of(part), 3); }), ErrorCode::kCorrupt) << bytes;
  }
}

// ---- the exchange ----

// One rank's bootstrap in a thread of its own.
class Rank {
 public:
  Rank(const std::shared_ptr<MemoryStoreMap>& map, int rank, int ranks, PeerInfo mine)
      : store_(memory_store(map)), bootstrap_(*store_, rank, ranks, std::move(mine)) {
    thread_ = std::thread([this] {
      try {
        roster = bootstrap_.run();
      } catch (const Error& thrown) {
        error = thrown;
      }
    });
  }
  ~Rank() {
    bootstrap_.stop();
    end();
  }
  void end() {
    if (thread_.joinable()) thread_.join();
  }
  void stop() { bootstrap_.stop(); }
  // Looks until it says so.
  bool await_missing(const std::vector<int>& ranks) const {
    const auto by = deadline_after(std::chrono::seconds(20));
    while (Clock::now() < by) {
      if (bootstrap_.missing() == ranks) return true;
      std::this_thread::yield();
    }
    return false;
  }
  // After end().
  std::optional<Roster> roster;
  std::optional<Error> error;

 private:
  std::unique_ptr<Store> store_;
  Bootstrap bootstrap_;
  std::thread thread_;
};

class BootstrapTest : public testing::TestWithParam<int> {
 protected:
  std::shared_ptr<MemoryStoreMap> map_ = memory_store_map();
};

// Rank 0 comes first, last and in the middle.
TEST_P(BootstrapTest, AllRanksGetOneRosterWhateverTheirOrder) {
  const int ranks = GetParam();
  for (const int shift : {0, 1, ranks / 2}) {
    const auto map = memory_store_map();
    std::vector<std::unique_ptr<Rank>> all(static_cast<std::size_t>(ranks));
    for (int i = 0; i < ranks; ++i) {
      const int rank = (i + shift) % ranks;
      all[static_cast<std::size_t>(rank)] = std::make_unique<Rank>(map, rank, ranks, info_of(rank));
    }
    for (const auto& rank : all) rank->end();
    for (int rank = 0; rank < ranks; ++rank) {
      const auto& one = *all[static_cast<std::size_t>(rank)];
      ASSERT_TRUE(one.roster) << (one.error ? one.error->what() : "nothing");
      EXPECT_EQ(*one.roster, *all[0]->roster);
      EXPECT_EQ(one.roster->peers[static_cast<std::size_t>(rank)], info_of(rank));
      EXPECT_TRUE(one.await_missing({}));
    }
    EXPECT_NE(all[0]->roster->run_id, 0u);
  }
}

// What an earlier group left in the store misleads nobody.
TEST_P(BootstrapTest, AnEarlierRunInTheStoreIsNotJoined) {
  const int ranks = GetParam();
  std::uint64_t earlier = 0;
  for (std::uint64_t run = 1; run <= 3; ++run) {
    std::vector<std::unique_ptr<Rank>> all;
    for (int rank = ranks - 1; rank >= 0; --rank) {
      // The others have seen the earlier answer before rank 0 begins.
      if (rank == 0) {
        for (const auto& other : all) EXPECT_TRUE(other->await_missing({0}));
      }
      all.push_back(std::make_unique<Rank>(map_, rank, ranks, info_of(rank, run)));
    }
    for (const auto& rank : all) rank->end();
    for (const auto& rank : all) {
      ASSERT_TRUE(rank->roster) << (rank->error ? rank->error->what() : "nothing");
      EXPECT_EQ(*rank->roster, *all.back()->roster);
      EXPECT_NE(rank->roster->run_id, earlier);
      for (int peer = 0; peer < ranks; ++peer) {
        EXPECT_EQ(rank->roster->peers[static_cast<std::size_t>(peer)], info_of(peer, run));
      }
    }
    earlier = all.back()->roster->run_id;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, BootstrapTest, testing::Values(1, 2, 5),
                         [](const auto& tested) { return fmt::format("p{}", tested.param); });

TEST(BootstrapMissingTest, NamesWhoHasNotAnsweredUntilStopped) {
  const auto map = memory_store_map();
  Rank one(map, 1, 4, info_of(1));
  EXPECT_TRUE(one.await_missing({0}));
  Rank zero(map, 0, 4, info_of(0));
  EXPECT_TRUE(zero.await_missing({2, 3}));
  EXPECT_TRUE(one.await_missing({2, 3}));
  Rank three(map, 3, 4, info_of(3));
  EXPECT_TRUE(zero.await_missing({2}));
  EXPECT_TRUE(one.await_missing({2}));
  for (Rank* rank : {&zero, &one, &three}) {
    rank->stop();
    rank->end();
    ASSERT_TRUE(rank->error);
    EXPECT_EQ(rank->error->code(), ErrorCode::kAborted);
    EXPECT_THAT(rank->error->what(), HasSubstr("exchanging addresses of 4 ranks"));
  }
}

TEST(BootstrapMissingTest, ARankZeroThatDiedIsMissing) {
  const auto map = memory_store_map();
  {
    Rank zero(map, 0, 2, info_of(0));
    EXPECT_TRUE(zero.await_missing({1}));
    zero.stop();  // before it could publish anything
    zero.end();
  }
  Rank one(map, 1, 2, info_of(1));
  EXPECT_TRUE(one.await_missing({0}));
}

TEST(BootstrapErrorsTest, AnAnswerThatMakesNoSenseIsCorrupt) {
  const auto map = memory_store_map();
  const auto store = memory_store(map);
  Rank zero(map, 0, 2, info_of(0));
  const auto run = store->get("treadle/run", deadline_after(std::chrono::seconds(20)));
  ASSERT_TRUE(run);
  store->set("treadle/" + *run + "/1", "nonsense");
  zero.end();
  ASSERT_TRUE(zero.error);
  EXPECT_EQ(zero.error->code(), ErrorCode::kCorrupt);
  EXPECT_THAT(zero.error->what(), HasSubstr("as rank 0"));
}

TEST(BootstrapErrorsTest, ARosterOfAnotherSizeSaysBoth) {
  const auto map = memory_store_map();
  const auto store = memory_store(map);
  store->set("treadle/run", "r");
  store->set("treadle/r/all", encode(Roster{.run_id = 1, .peers = {info_of(0)}}));
  Rank one(map, 1, 2, info_of(1));
  one.end();
  ASSERT_TRUE(one.error);
  EXPECT_EQ(one.error->code(), ErrorCode::kCorrupt);
  EXPECT_THAT(one.error->what(), HasSubstr("1 ranks, this rank was started with 2"));
}

class BrokenStore final : public Store {
 public:
  void set(std::string_view, std::string_view) override { fail(); }
  std::optional<std::string> get(std::string_view, Deadline) override { fail(); }

 private:
  [[noreturn]] static void fail() { throw Error(ErrorCode::kSystem, "the store has gone"); }
};

TEST(BootstrapErrorsTest, AStoreOutOfReachIsToldWithWhatItWasFor) {
  for (const int rank : {0, 1}) {
    BrokenStore store;
    Bootstrap bootstrap(store, rank, 2, info_of(rank));
    try {
      bootstrap.run();
      FAIL() << "met nobody";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kSystem);
      EXPECT_THAT(error.what(), HasSubstr("the store has gone"));
      EXPECT_THAT(error.what(),
                  HasSubstr(fmt::format("of 2 ranks through the store as rank {}", rank)));
    }
  }
}

}  // namespace
}  // namespace treadle
