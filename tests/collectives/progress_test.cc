// Who drives an operation must not matter: inline or queued, blocking or not, from whichever
// thread.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>

#include "tests/world.h"

namespace treadle {
namespace {

class ProgressTest : public testing::TestWithParam<Links> {};

std::string links_name(const testing::TestParamInfo<Links>& tested) {
  return name_of(tested.param);
}

void expect_no_errors(const std::vector<std::string>& ends) {
  for (const auto& end : ends) EXPECT_EQ(end, "");
}

// Each rank runs each operation in its own way, from a different way on.
TEST_P(ProgressTest, EveryMixOfInlineQueuedBlockingAsync) {
  constexpr int kRanks = 3;
  constexpr int kWays = 4;
  expect_no_errors(World(kRanks, GetParam()).run([](int rank, Communicator& comm) {
    for (int round = 0; round < kWays * kWays * kWays; ++round) {
      // Digits of `round` choose the way of each rank.
      const int way = rank == 0   ? round % kWays
                      : rank == 1 ? round / kWays % kWays
                                  : round / kWays / kWays;
      std::vector<float> a = {static_cast<float>(rank + 1)};
      std::vector<float> b = {static_cast<float>(10 * (rank + 1))};
      const auto reduce = [&](std::vector<float>& v, bool blocking) {
        return comm.all_reduce(bytes_of(v), writable_bytes_of(v), DType::kF32, ReduceOp::kSum,
                               {.blocking = blocking});
      };
      if (way == 0) {  // inline, then inline
        reduce(a, true).wait();
        reduce(b, true).wait();
      } else if (way == 1) {  // queued, then a blocking one behind it
        const Work first = reduce(a, false);
        reduce(b, true).wait();
        first.wait();
      } else if (way == 2) {  // both queued, awaited backwards
        const Work first = reduce(a, false);
        const Work second = reduce(b, false);
        second.wait();
        first.wait();
      } else {  // inline, then queued and polled
        reduce(a, true).wait();
        const Work second = reduce(b, false);
        while (!second.done()) std::this_thread::yield();
      }
      ASSERT_EQ(a[0], 6.0F) << "round " << round;
      ASSERT_EQ(b[0], 60.0F) << "round " << round;
    }
  }));
}

TEST_P(ProgressTest, ACallbackMayWaitForAnotherOperation) {
  expect_no_errors(World(2, GetParam()).run([](int rank, Communicator& comm) {
    std::vector<int> outer = {rank};
    std::vector<int> inner = {rank + 1};
    std::atomic<int> result{-1};
    const Work work =
        comm.all_reduce(bytes_of(outer), writable_bytes_of(outer), DType::kI32, ReduceOp::kSum);
    work.on_done([&](const Error* error) {
      EXPECT_EQ(error, nullptr);
      comm.all_reduce(bytes_of(inner), writable_bytes_of(inner), DType::kI32, ReduceOp::kSum,
                      {.blocking = true})
          .wait();
      result = inner[0];
      result.notify_all();
    });
    result.wait(-1);
    EXPECT_EQ(result, 3);
    EXPECT_EQ(outer[0], 1);
  }));
}

TEST_P(ProgressTest, FourThreadsWaitOnOneCommunicator) {
  expect_no_errors(World(2, GetParam()).run([](int rank, Communicator& comm) {
    constexpr std::size_t kThreads = 4;
    for (int round = 0; round < 50; ++round) {
      std::vector<std::vector<float>> data(kThreads,
                                           std::vector<float>(5'000, static_cast<float>(rank + 1)));
      std::vector<Work> works;
      for (auto& v : data) {
        works.push_back(
            comm.all_reduce(bytes_of(v), writable_bytes_of(v), DType::kF32, ReduceOp::kSum));
      }
      std::vector<std::thread> threads;
      for (std::size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          works[t].wait();
          EXPECT_EQ(data[t].back(), 3.0F);
        });
      }
      for (auto& thread : threads) thread.join();
    }
  }));
}

TEST_P(ProgressTest, AnExpiredWaitLeavesTheOperationRunning) {
  expect_no_errors(World(2, GetParam()).run([](int rank, Communicator& comm) {
    std::vector<int> early = {1};
    std::vector<int> go = {0};
    if (rank == 0) {
      const Work work =
          comm.all_reduce(bytes_of(early), writable_bytes_of(early), DType::kI32, ReduceOp::kSum);
      try {
        work.wait_for(milliseconds(1));
        ADD_FAILURE() << "the other rank cannot have called yet";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kTimeout);
      }
      comm.send(bytes_of(go), DType::kI32, 1, 7).wait();
      work.wait();
    } else {
      comm.recv(writable_bytes_of(go), DType::kI32, 0, 7).wait();
      comm.all_reduce(bytes_of(early), writable_bytes_of(early), DType::kI32, ReduceOp::kSum)
          .wait();
    }
    EXPECT_EQ(early[0], 2);
  }));
}

// Calls until that fails, `ahead` operations at a time. Returns how many were complete.
std::uint64_t call_until_refused(Communicator& comm, int ahead, std::string& refusal) {
  std::vector<std::vector<int>> data(static_cast<std::size_t>(ahead), std::vector<int>(1'000, 1));
  std::uint64_t complete = 0;
  try {
    while (true) {
      std::vector<Work> works;
      const auto wait_for_all = [&] {
        for (const Work& work : works) {
          work.wait();
          ++complete;
        }
        works.clear();
      };
      try {
        for (auto& v : data) {
          works.push_back(comm.all_reduce(bytes_of(v), writable_bytes_of(v), DType::kI32,
                                          ReduceOp::kMax, {.blocking = ahead == 1}));
        }
      } catch (const Error&) {
        wait_for_all();  // what was taken is finished
        throw;
      }
      wait_for_all();
    }
  } catch (const Error& error) {
    refusal = error.what();
  }
  return complete;
}

TEST_P(ProgressTest, ShutdownWhileAnotherThreadCalls) {
  for (int round = 0; round < 20; ++round) {
    const int ahead = round % 2 == 0 ? 1 : 3;
    std::array<std::uint64_t, 2> complete{};
    const auto ends = World(2, GetParam()).run([&](int rank, Communicator& comm) {
      std::string refusal;
      std::thread ender;
      if (rank == 0) {
        ender = std::thread([&] {
          while (comm.operations_submitted() < 20) std::this_thread::yield();
          comm.shutdown();
        });
      }
      complete[static_cast<std::size_t>(rank)] = call_until_refused(comm, ahead, refusal);
      if (ender.joinable()) ender.join();
      throw std::runtime_error(refusal);
    });
    EXPECT_THAT(ends[0], testing::HasSubstr("shut down"));
    EXPECT_THAT(ends[1], testing::HasSubstr(
                             fmt::format("rank 0 has left the group after {} op", complete[0])));
    EXPECT_EQ(complete[1], complete[0]);
  }
}

INSTANTIATE_TEST_SUITE_P(Links, ProgressTest,
                         testing::Values(Links::kMemory, Links::kShm, Links::kTcp), links_name);

}  // namespace
}  // namespace treadle
