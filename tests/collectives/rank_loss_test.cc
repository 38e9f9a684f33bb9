// Contract 1 beyond the plain kill and stop of processes_test.cc: ranks that are alive and do not
// come, abort, lost ranks that nobody has a connection to, and what is left afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <thread>

#include "tests/collectives/process_group.h"

namespace treadle {
namespace {

using testing::HasSubstr;

constexpr std::chrono::seconds kLimit{10};
// Five large operations take half a minute under TSan.
constexpr std::chrono::seconds kStart{120};

std::string links_name(const testing::TestParamInfo<Links>& tested) {
  return name_of(tested.param);
}

class RankLossTest : public testing::TestWithParam<Links> {
 protected:
  // A group per operation, all at once; returns when all are where `wanted` says.
  std::vector<std::unique_ptr<FailingGroup>> groups_of_all_operations(
      FailingGroup::Options wanted) {
    std::vector<std::unique_ptr<FailingGroup>> groups;
    wanted.links = GetParam();
    for (const auto& operation : operation_cases()) {
      wanted.operation = operation;
      groups.push_back(std::make_unique<FailingGroup>(wanted));
    }
    for (const auto& group : groups) EXPECT_TRUE(group->await_moment(deadline_after(kStart)));
    return groups;
  }

  std::shared_ptr<Context> context(int rank, int ranks = 3) const {
    Config config;
    config.log_level = "error";
    if (GetParam() == Links::kTcp) config.transport = "tcp";
    return Context::create({.rank = rank,
                            .ranks = ranks,
                            .store = file_store(directory_.path()),
                            .config = config,
                            .transports = {}});
  }
  // Runs `body` and reports its Error, with the prefix that expect_error looks for.
  static void report_error_of(RankProcess& self, const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      self.report(fmt::format("error {}: {}", error.failed_rank(), error.what()));
    }
  }
  static void expect_error(Processes& ranks, int rank, const std::string& text, Deadline by) {
    const auto error = ranks.await_report(rank, "error ", by);
    EXPECT_TRUE(error) << "no error in time; " << ranks.said(rank);
    if (error) {
      EXPECT_THAT(*error, HasSubstr(text));
    }
    EXPECT_EQ(ranks.await_end(rank, by), 0) << ranks.said(rank);
  }

  TemporaryDirectory directory_;
};

// The first deadline is that of a rank that waits for the missing one itself: for the root's work
// rank 0, for its neighbour's message rank 2.
TEST_P(RankLossTest, ARankThatNeverCallsIsNamedAtTheDeadline) {
  constexpr int kVictim = 1;
  std::vector<std::unique_ptr<FailingGroup>> groups;
  for (const auto& operation : operation_cases()) {
    const int first = operation.name == "send_recv" ? 2 : 0;
    groups.push_back(std::make_unique<FailingGroup>(FailingGroup::Options{
        .operation = operation,
        .links = GetParam(),
        .victim = kVictim,
        .timeout = [first](int rank) { return milliseconds(rank == first ? 2000 : 20'000); }}));
  }
  for (const auto& group : groups) EXPECT_TRUE(group->await_moment(deadline_after(kStart)));
  const auto by = deadline_after(kLimit);
  for (const auto& group : groups) group->expect_survivors_blame_victim(by);
  for (const auto& group : groups) {
    SCOPED_TRACE(group->options.operation.name + ", the late rank");
    group->processes.go(kVictim);
    EXPECT_THAT(group->expect_error_and_exit(kVictim, by), HasSubstr("Timed out"));
  }
}

// It has sent what it had to and owes nothing, although it never says so again.
TEST_P(RankLossTest, ARankThatHasReturnedIsNotAccusedOfNotCalling) {
  const auto ends = World(3, GetParam()).run([](int rank, Communicator& comm) {
    comm.barrier().wait();
    if (rank != 1) {
      std::vector<float> mine(10);
      std::vector<float> all(30);
      comm.gather(bytes_of(mine), writable_bytes_of(all), DType::kF32, 0,
                  {.timeout = milliseconds(800)})
          .wait();
      EXPECT_EQ(rank, 2) << "a gather without rank 1";
    }
    while (!comm.error()) std::this_thread::yield();
  });
  EXPECT_THAT(ends[0], HasSubstr("rank 1 never called it"));
}

TEST_P(RankLossTest, AbortEndsTheOthersAtOnce) {
  constexpr int kVictim = 2;
  const auto groups = groups_of_all_operations(
      {.operation = {}, .victim = kVictim, .instead_of_call = [](Communicator& comm) {
         comm.abort("seen enough");
       }});
  for (const auto& group : groups) group->processes.go(kVictim);
  const auto by = deadline_after(std::chrono::seconds(3));
  for (const auto& group : groups) {
    group->expect_survivors_blame_victim(by);
    for (int rank = 0; rank < FailingGroup::kRanks; ++rank) {
      SCOPED_TRACE(group->options.operation.name);
      EXPECT_THAT(group->expect_error_and_exit(rank, by),
                  HasSubstr("aborted on rank 2: seen enough"));
    }
  }
}

// Its sockets stay open, so that nothing but silence tells.
TEST_P(RankLossTest, AKilledRankWhoseForkedChildLivesIsLost) {
  constexpr int kVictim = 2;
  FailingGroup group({.operation = operation_cases().front(),
                      .links = GetParam(),
                      .victim = kVictim,
                      .instead_of_call = [](Communicator&) {
                        if (::fork() == 0) {
                          ::alarm(20);  // nobody waits for it
                          while (true) ::pause();
                        }
                        ::kill(::getpid(), SIGKILL);
                      }});
  ASSERT_TRUE(group.await_moment(deadline_after(kStart)));
  group.processes.go(kVictim);
  group.expect_survivors_blame_victim(deadline_after(kLimit));
}

TEST_P(RankLossTest, AKilledRankThatNobodyHasTalkedToIsNamed) {
  Processes ranks(3, [&](int rank, RankProcess& self) {
    const auto mine = context(rank);
    if (rank == 1) return self.await_go();
    // A barrier of two needs the addresses of all.
    Communicator two = mine->communicator({.name = "two", .ranks = {0, 2}});
    two.barrier().wait();
    self.report("there");
    self.await_go();
    Communicator all = mine->communicator({.name = "all"});
    report_error_of(self, [&] { all.barrier().wait(); });
  });
  for (const int rank : {0, 2}) {
    ASSERT_TRUE(ranks.await_report(rank, "there", deadline_after(kStart))) << ranks.said(rank);
  }
  ranks.kill(1);
  const auto by = deadline_after(kLimit);
  for (const int rank : {0, 2}) ranks.go(rank);
  for (const int rank : {0, 2}) expect_error(ranks, rank, "rank 1", by);
}

TEST_P(RankLossTest, WhenAllOthersDieTheLastOneNamesOne) {
  Processes ranks(4, [&](int rank, RankProcess& self) {
    const auto mine = context(rank, 4);
    Communicator all = mine->communicator({.name = "all"});
    report_error_of(self, [&] {
      all.barrier().wait();
      self.report("there");
      while (true) all.barrier().wait();
    });
  });
  for (int rank = 0; rank < 4; ++rank) {
    ASSERT_TRUE(ranks.await_report(rank, "there", deadline_after(kStart))) << ranks.said(rank);
  }
  for (const int rank : {0, 1, 3}) ranks.kill(rank);
  expect_error(ranks, 2, "barrier", deadline_after(kLimit));
}

TEST_P(RankLossTest, SurvivorsGoOnInANewGroup) {
  Processes ranks(3, [&](int rank, RankProcess& self) {
    const auto mine = context(rank);
    Communicator all = mine->communicator({.name = "all"});
    all.barrier().wait();
    self.report("there");
    report_error_of(self, [&] {
      while (true) all.barrier().wait();
    });
    Communicator left = mine->communicator({.name = "all", .ranks = {0, 2}, .generation = 1});
    for (const std::size_t elems : {1UL, 300'000UL}) {
      std::vector<int> sum(elems, rank + 1);
      left.all_reduce(bytes_of(sum), writable_bytes_of(sum), DType::kI32, ReduceOp::kSum).wait();
      self.report(fmt::format("sum of {}: {}", elems, sum.back()));
    }
  });
  for (int rank = 0; rank < 3; ++rank) {
    ASSERT_TRUE(ranks.await_report(rank, "there", deadline_after(kStart))) << ranks.said(rank);
  }
  ranks.kill(1);
  const auto by = deadline_after(kLimit);
  for (const int rank : {0, 2}) {
    EXPECT_TRUE(ranks.await_report(rank, "sum of 1: 4", by)) << ranks.said(rank);
    EXPECT_TRUE(ranks.await_report(rank, "sum of 300000: 4", by)) << ranks.said(rank);
    EXPECT_EQ(ranks.await_end(rank, by), 0) << ranks.said(rank);
  }
}

INSTANTIATE_TEST_SUITE_P(Processes, RankLossTest, testing::Values(Links::kShm, Links::kTcp),
                         links_name);

// A transport that can listen, and does `instead` where it should connect.
class NoWayOut final : public Transport {
 public:
  NoWayOut(std::unique_ptr<Transport> inner, std::function<void()> instead)
      : inner_(std::move(inner)), instead_(std::move(instead)) {}
  std::string_view name() const override { return inner_->name(); }
  std::string unusable_because() const override { return inner_->unusable_because(); }
  std::unique_ptr<Listener> listen_on_loop(AcceptHandler on_accept) override {
    return inner_->listen_on_loop(std::move(on_accept));
  }
  std::unique_ptr<Connection> connect_on_loop(std::string_view address, Lane lane, bool same_host,
                                              ConnectionEvents& events) override {
    instead_();
    return inner_->connect_on_loop(address, lane, same_host, events);
  }
  std::shared_ptr<SharedSegment> make_segment(std::size_t bytes) override {
    return inner_->make_segment(bytes);
  }

 private:
  std::unique_ptr<Transport> inner_;
  std::function<void()> instead_;
};

void nothing(Engine&) {}

// Runs a barrier of two ranks of which rank 0 makes its transport and connects in that way; returns
// how both ended.
std::vector<std::string> barrier_with(const std::function<void(Engine&)>& instead_of_connecting,
                                      const std::function<void(Engine&)>& when_made = nothing) {
  const auto hub = memory_hub();
  const auto map = memory_store_map();
  std::vector<std::string> ends(2);
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&, rank] {
      TransportRow row = memory_row(hub);
      if (rank == 0) {
        row.make = [&](const TransportEnvironment& environment) {
          when_made(environment.engine);
          return std::make_unique<NoWayOut>(
              memory_transport(environment, hub),
              [&, &engine = environment.engine] { instead_of_connecting(engine); });
        };
      }
      Config config;
      config.log_level = "error";
      config.timeout = std::chrono::seconds(20);
      config.heartbeat = milliseconds(200);
      const auto context = Context::create({.rank = rank,
                                            .ranks = 2,
                                            .store = memory_store(map),
                                            .config = config,
                                            .transports = {row}});
      Communicator group = context->communicator({.name = "all"});
      try {
        group.barrier().wait();
      } catch (const Error& error) {
        ends[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return ends;
}

TEST(UnusableLinks, ATransportThatCannotConnectLosesTheRank) {
  const auto ends = barrier_with([](Engine&) { throw std::runtime_error("no descriptor left"); });
  EXPECT_THAT(ends[0], HasSubstr("rank 1 is lost: no descriptor left"));
  EXPECT_THAT(ends[0], HasSubstr("barrier"));
  EXPECT_THAT(ends[1], HasSubstr("rank 0"));
}

void throw_on_the_loop(Engine& engine) {
  engine.post([] { throw std::runtime_error("out of luck"); });
}

void expect_both_know(const std::vector<std::string>& ends) {
  EXPECT_THAT(ends[0], HasSubstr("out of luck"));
  EXPECT_THAT(ends[0], HasSubstr("barrier"));
  EXPECT_THAT(ends[1], HasSubstr("rank 0 reports: out of luck"));
}

TEST(UnusableLinks, AnExceptionOnTheLoopEndsTheGroupOnAllRanks) {
  expect_both_know(barrier_with(throw_on_the_loop));
}

TEST(UnusableLinks, AnExceptionBeforeTheRanksHaveMetDoesSoToo) {
  expect_both_know(barrier_with(nothing, throw_on_the_loop));
}

class StoreHostTest : public testing::TestWithParam<Links> {};

// The store has done its part once the ranks have met.
TEST_P(StoreHostTest, IsLostLikeAnyOtherRank) {
  for (const Moment moment : {Moment::kNeverCalled, Moment::kSmallLoop}) {
    FailingGroup group({.operation = operation_cases().front(),
                        .moment = moment,
                        .links = GetParam(),
                        .victim = 0,
                        .tcp_store = true});
    ASSERT_TRUE(group.await_moment(deadline_after(kStart)));
    group.processes.kill(0);
    group.expect_survivors_blame_victim(deadline_after(kLimit));
  }
}

INSTANTIATE_TEST_SUITE_P(Processes, StoreHostTest, testing::Values(Links::kShm, Links::kTcp),
                         links_name);

TEST(StoreHostKilledTest, BeforeTheRanksHaveMetIsAnErrorThatNamesIt) {
  const std::string where = fmt::format("127.0.0.1:{}", free_port());
  // Rank 2 never comes, so rank 0 cannot publish the addresses.
  Processes ranks(2, [&](int rank, RankProcess& self) {
    const auto context =
        Context::create({.rank = rank,
                         .ranks = 3,
                         .store = tcp_store(where, rank, deadline_after(std::chrono::seconds(20))),
                         .config = {},
                         .transports = {}});
    Communicator comm = context->communicator({.name = "world"});
    self.report("there");
    try {
      comm.barrier({.timeout = std::chrono::seconds(60)}).wait();
    } catch (const Error& error) {
      self.report(fmt::format("error {}", error.what()));
    }
  });
  for (const int rank : {0, 1}) {
    ASSERT_TRUE(ranks.await_report(rank, "there", deadline_after(kStart))) << ranks.said(rank);
  }
  ranks.kill(0);
  const auto by = deadline_after(kLimit);
  const auto error = ranks.await_report(1, "error ", by);
  ASSERT_TRUE(error) << ranks.said(1);
  EXPECT_THAT(*error, HasSubstr(where));
  EXPECT_THAT(*error, HasSubstr("barrier"));
  EXPECT_EQ(ranks.await_end(1, by), 0) << ranks.said(1);
}

}  // namespace
}  // namespace treadle
