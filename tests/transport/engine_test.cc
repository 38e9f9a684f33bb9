// The engine: who drives, timers, descriptors, and wake-ups. Slices are longer than every wait, so
// that a lost wake-up fails a test instead of slowing it down.
#include "transport/engine.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/error.h"

namespace treadle {
namespace {

constexpr milliseconds kSlice{60'000};
constexpr std::chrono::seconds kSoon{20};

std::string thread_name(const testing::TestParamInfo<bool>& tested) {
  return tested.param ? "with_thread" : "without_thread";
}

// With the engine's own thread and without it.
class EngineTest : public testing::TestWithParam<bool> {
 protected:
  bool wait(const std::function<bool()>& done) {
    return engine_.wait_until(done, deadline_after(kSoon));
  }
  Engine engine_{{.slice = kSlice, .start_thread = GetParam()}};
};

TEST_P(EngineTest, RunOnLoopRunsOnTheLoopAndHandsErrorsOver) {
  bool on_loop = false;
  engine_.run_on_loop([&] {
    on_loop = engine_.on_loop();
    engine_.run_on_loop([&] { EXPECT_TRUE(engine_.on_loop()) << "nested"; });
  });
  EXPECT_TRUE(on_loop);
  EXPECT_FALSE(engine_.on_loop());
  EXPECT_THROW(engine_.run_on_loop([] { throw Error(ErrorCode::kSystem, "no"); }), Error);
  engine_.run_on_loop([] {});
}

TEST_P(EngineTest, WaitingOnTheLoopIsABug) {
  engine_.run_on_loop([&] {
    try {
      engine_.wait_until([] { return false; }, deadline_after(kSoon));
      ADD_FAILURE() << "it waited for itself";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBug);
    }
  });
}

TEST_P(EngineTest, PostedFunctionsRunInOrder) {
  std::vector<int> order;
  std::atomic<bool> last{false};
  for (int i = 0; i < 100; ++i) {
    engine_.post([&, i] {
      order.push_back(i);
      if (i == 99) {
        last = true;
        engine_.notify_waiters_on_loop();
      }
    });
  }
  ASSERT_TRUE(wait([&] { return last.load(); }));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_P(EngineTest, WaitEndsAtItsDeadline) {
  const auto start = Clock::now();
  EXPECT_FALSE(engine_.wait_until([] { return false; }, deadline_after(milliseconds(30))));
  EXPECT_GE(Clock::now() - start, milliseconds(30));
  EXPECT_LT(Clock::now() - start, kSoon);
  EXPECT_TRUE(engine_.wait_until([] { return true; }, Clock::now()));
}

TEST_P(EngineTest, TimersRunInTheOrderOfTheirTimesUnlessCancelled) {
  std::vector<int> order;
  std::atomic<bool> done{false};
  std::uint64_t last = 0;
  const auto ran = [&](int number) {
    order.push_back(number);
    done = order.size() == 3;
    engine_.notify_waiters_on_loop();
  };
  engine_.run_on_loop([&] {
    const auto now = Clock::now();
    engine_.add_timer_on_loop(now + milliseconds(30), [&] { ran(3); });
    // By value: this function has returned when the timer runs.
    engine_.add_timer_on_loop(now + milliseconds(10), [&, now] {
      ran(1);
      engine_.cancel_timer_on_loop(last);
      // A timer that is due at once is not run for ever in one go.
      engine_.add_timer_on_loop(now, [&] { ran(2); });
    });
    last = engine_.add_timer_on_loop(now + milliseconds(20), [&] { ran(99); });
    engine_.cancel_timer_on_loop(1'000'000);
  });
  ASSERT_TRUE(wait([&] { return done.load(); })) << testing::PrintToString(order);
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TEST_P(EngineTest, ADescriptorWakesASleepingDriver) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  std::atomic<int> reads{0};
  engine_.run_on_loop([&] {
    engine_.add_fd_on_loop(pipe[0], EPOLLIN, [&](std::uint32_t events) {
      EXPECT_NE(events & EPOLLIN, 0u);
      char byte = 0;
      EXPECT_EQ(::read(pipe[0], &byte, 1), 1);
      ++reads;
      engine_.notify_waiters_on_loop();
    });
  });
  std::thread writer([&] {
    for (int i = 1; i <= 50; ++i) {
      EXPECT_EQ(::write(pipe[1], "x", 1), 1);
      reads.wait(i - 1);
    }
  });
  EXPECT_TRUE(wait([&] {
    reads.notify_all();
    return reads == 50;
  }));
  reads.notify_all();
  writer.join();
  // Not told any more, though there is something to read.
  engine_.run_on_loop([&] { engine_.remove_fd_on_loop(pipe[0]); });
  EXPECT_EQ(::write(pipe[1], "x", 1), 1);
  engine_.run_on_loop([] {});
  EXPECT_EQ(reads, 50);
  for (const int fd : pipe) ::close(fd);
}

TEST_P(EngineTest, AHandlerMayRemoveOthers) {
  std::array<std::array<int, 2>, 3> pipes{};
  int calls = 0;
  for (auto& pipe : pipes) ASSERT_EQ(::pipe(pipe.data()), 0);
  engine_.run_on_loop([&] {
    for (auto& pipe : pipes) {
      ASSERT_EQ(::write(pipe[1], "x", 1), 1);
      engine_.add_fd_on_loop(pipe[0], EPOLLIN, [&](std::uint32_t) {
        ++calls;
        for (auto& other : pipes) engine_.remove_fd_on_loop(other[0]);
      });
    }
  });
  std::atomic<bool> later{false};
  engine_.run_on_loop([&] {
    engine_.add_timer_on_loop(Clock::now() + milliseconds(5), [&] {
      later = true;
      engine_.notify_waiters_on_loop();
    });
  });
  ASSERT_TRUE(wait([&] { return later.load(); }));
  EXPECT_EQ(calls, 1);
  for (auto& pipe : pipes) {
    for (const int fd : pipe) ::close(fd);
  }
}

TEST_P(EngineTest, OneOfManyWaitersDrivesAndAllGetWhatTheyWaitFor) {
  constexpr int kThreads = 6;
  constexpr int kRounds = 200;
  std::atomic<int> turn{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        const int mine = round * kThreads + t;
        EXPECT_TRUE(wait([&] { return turn >= mine; })) << mine;
        engine_.post([&] {
          ++turn;
          engine_.notify_waiters_on_loop();
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(wait([&] { return turn == kThreads * kRounds; }));
}

class Watched final : public Engine::Poller {
 public:
  bool poll_on_loop() override {
    ++polls;
    return false;
  }
  void announce_sleep_on_loop(bool sleeps) override { asleep = sleeps; }
  std::atomic<int> polls{0};
  std::atomic<bool> asleep{false};
};

// What a shared ring relies on: a peer that sees `asleep` rings, one that does not is seen.
TEST_P(EngineTest, PollersAreToldBeforeTheDriverSleeps) {
  Watched poller;
  engine_.run_on_loop([&] { engine_.add_poller_on_loop(poller); });
  std::atomic<bool> done{false};
  std::thread peer([&] {
    while (!poller.asleep) std::this_thread::yield();
    done = true;
    engine_.doorbell()->ring();
  });
  EXPECT_TRUE(wait([&] { return done.load(); }));
  peer.join();
  EXPECT_GT(poller.polls, 0);
  engine_.run_on_loop([&] { engine_.remove_poller_on_loop(poller); });
  const int polls = poller.polls;
  engine_.run_on_loop([] {});
  EXPECT_EQ(poller.polls, polls);
}

TEST_P(EngineTest, UserCodeRunsInOrderOffTheLoopAndMayWait) {
  std::vector<int> order;
  std::atomic<int> ran{0};
  engine_.run_on_loop([&] {
    for (int i = 0; i < 10; ++i) {
      engine_.run_user_code([&, i] {
        EXPECT_FALSE(engine_.on_loop());
        engine_.run_on_loop([&, i] { order.push_back(i); });
        ++ran;
        ran.notify_all();
      });
    }
  });
  for (int seen = 0; seen < 10; seen = ran) ran.wait(seen);
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

INSTANTIATE_TEST_SUITE_P(Engine, EngineTest, testing::Values(true, false), thread_name);

// Whatever throws, the loop goes on and its owner is told.
TEST(EngineExceptions, AreHandedToTheOwner) {
  class Thrower final : public Engine::Poller {
   public:
    bool poll_on_loop() override {
      if (std::exchange(throws, false)) throw Error(ErrorCode::kSystem, "poller");
      return false;
    }
    void announce_sleep_on_loop(bool) override {}
    bool throws = true;
  };
  std::vector<std::string> told;
  Engine engine({.slice = kSlice, .start_thread = true, .on_exception = [&](const Error& error) {
                   told.emplace_back(error.what());
                 }});
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  Thrower poller;
  engine.run_on_loop([&] {
    engine.add_poller_on_loop(poller);
    engine.add_fd_on_loop(pipe[0], EPOLLIN, [&](std::uint32_t) {
      engine.remove_fd_on_loop(pipe[0]);
      throw Error(ErrorCode::kSystem, "handler");
    });
    engine.add_timer_on_loop(Clock::now(), [] { throw std::runtime_error("timer"); });
    engine.post([] { throw Error(ErrorCode::kSystem, "posted"); });
  });
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  const auto all_told = [&] {
    bool all = false;
    engine.run_on_loop([&] { all = told.size() == 4; });
    return all;
  };
  const auto by = deadline_after(kSoon);
  while (!all_told() && Clock::now() < by) std::this_thread::yield();
  engine.run_on_loop([&] { engine.remove_poller_on_loop(poller); });
  std::ranges::sort(told);
  ASSERT_EQ(told.size(), 4U);
  for (const std::size_t i : {0, 1, 2, 3}) {
    constexpr std::array kWho = {"handler", "poller", "posted", "timer"};
    EXPECT_NE(told[i].find(kWho.at(i)), std::string::npos) << told[i];
  }
  ::close(pipe[0]);
  ::close(pipe[1]);
}

// The engine's thread looks after what nobody waits for.
class EngineThreadTest : public testing::Test {
 protected:
  void await(std::atomic<bool>& flag) { flag.wait(false); }
  static void raise(std::atomic<bool>& flag) {
    flag = true;
    flag.notify_all();
  }
  Engine engine_{{.slice = kSlice, .start_thread = true}};
};

TEST_F(EngineThreadTest, RunsWhatIsPosted) {
  for (int i = 0; i < 200; ++i) {
    std::atomic<bool> ran{false};
    engine_.post([&] { raise(ran); });
    await(ran);
  }
}

TEST_F(EngineThreadTest, RunsTimersThatWereAddedByAWaiter) {
  for (int i = 0; i < 20; ++i) {
    std::atomic<bool> ran{false};
    engine_.run_on_loop(
        [&] { engine_.add_timer_on_loop(Clock::now() + milliseconds(2), [&] { raise(ran); }); });
    await(ran);
  }
}

// A waiter that drives for a while sends the thread to sleep for a slice; what is due afterwards
// must not wait for the end of it.
TEST_F(EngineThreadTest, RunsTimersInTimeAfterALongWait) {
  std::atomic<bool> ran{false};
  std::atomic<bool> rang{false};
  EXPECT_FALSE(engine_.wait_until(
      [&] {
        // While this thread drives, the other one is woken and finds nothing to do.
        if (!rang.exchange(true)) engine_.wake();
        return false;
      },
      deadline_after(milliseconds(50))));
  engine_.run_on_loop(
      [&] { engine_.add_timer_on_loop(Clock::now() + milliseconds(20), [&] { raise(ran); }); });
  await(ran);
}

TEST_F(EngineThreadTest, RunsTimersAfterAWaiterThatDroveWithATimerPending) {
  for (int i = 0; i < 20; ++i) {
    std::atomic<bool> ran{false};
    std::atomic<bool> waited{false};
    engine_.run_on_loop([&] {
      engine_.add_timer_on_loop(Clock::now() + milliseconds(30), [&] { raise(ran); });
      engine_.add_timer_on_loop(Clock::now() + milliseconds(10), [&] {
        waited = true;
        engine_.notify_waiters_on_loop();
      });
    });
    EXPECT_TRUE(engine_.wait_until([&] { return waited.load(); }, deadline_after(kSoon)));
    await(ran);
  }
}

}  // namespace
}  // namespace treadle
