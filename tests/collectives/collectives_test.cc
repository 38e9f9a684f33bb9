// Every collective over every kind of link, compared with a reference that goes element by element.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "collectives/algorithms.h"
#include "tests/collectives/reference.h"
#include "tests/world.h"

namespace treadle {
namespace {

struct Case {
  Links links;
  int ranks;
};
std::string case_name(const testing::TestParamInfo<Case>& tested) {
  return name_of(tested.param.links) + "_p" + std::to_string(tested.param.ranks);
}

class CollectivesTest : public testing::TestWithParam<Case> {
 protected:
  const Links links_ = GetParam().links;
  const int ranks_ = GetParam().ranks;

  void run(const std::function<void(int, Communicator&)>& body) const {
    const auto ends = World(ranks_, links_).run(body);
    for (int r = 0; r < ranks_; ++r)
      EXPECT_EQ(ends[static_cast<std::size_t>(r)], "") << "rank " << r;
  }
  std::vector<std::string> names(Collective collective) const {
    std::vector<std::string> all;
    for (const Algorithm& row : algorithms_of(collective)) {
      if (row.name == "local" && links_ == Links::kTcp && ranks_ > 1)
        continue;  // needs shared memory
      all.emplace_back(row.name);
    }
    return all;
  }
};

// One reduction, checked byte for byte; `shift` misaligns the buffers.
void check_all_reduce(Communicator& comm, DType dtype, ReduceOp op, std::size_t elems,
                      std::size_t shift, const CallOptions& options) {
  const auto input = input_of(dtype, comm.rank(), elems);
  std::vector<std::byte> in(input.size() + shift + 1, std::byte{0x5A});
  std::vector<std::byte> out(input.size() + shift + 1, std::byte{0x5A});
  std::ranges::copy(input, in.begin() + static_cast<std::ptrdiff_t>(shift));
  const auto expected = reduction_of(dtype, op, comm.size(), 0, elems);
  const auto from = ConstBytes(in).subspan(shift, input.size());
  const auto to = Bytes(out).subspan(shift, input.size());
  comm.all_reduce(from, to, dtype, op, options).wait();
  const std::string what = std::string(name_of(dtype)) + " " + std::string(name_of(op)) + " " +
                           options.algorithm + " elems " + std::to_string(elems);
  ASSERT_TRUE(same_bytes(to, expected)) << what;
  ASSERT_EQ(out.back(), std::byte{0x5A}) << what << ": wrote behind the output";
  ASSERT_TRUE(same_bytes(from, input)) << what << ": changed the input";
  const auto place = Bytes(in).subspan(shift, input.size());
  comm.all_reduce(place, place, dtype, op, options).wait();
  ASSERT_TRUE(same_bytes(place, expected)) << what << " in place";
}

TEST_P(CollectivesTest, AllReduceOfEveryTypeAndOperator) {
  const auto algorithms = names(Collective::kAllReduce);
  run([&](int, Communicator& comm) {
    for (const auto& algorithm : algorithms) {
      for (int d = 0; d < kDTypes; ++d) {
        for (int o = 0; o < kReduceOps; ++o) {
          const auto dtype = static_cast<DType>(d);
          const auto op = static_cast<ReduceOp>(o);
          if (!supports(op, dtype)) {
            std::vector<std::byte> data(size_of(dtype));
            EXPECT_THROW(comm.all_reduce(data, data, dtype, op), std::invalid_argument);
            continue;
          }
          const CallOptions options{
              .premul_factor = kPremulFactor, .algorithm = algorithm, .blocking = true};
          for (const std::size_t elems : {0, 1, 7, 131}) {
            check_all_reduce(comm, dtype, op, elems, elems % 3, options);
          }
        }
      }
    }
  });
}

TEST_P(CollectivesTest, AllReduceOfManySizes) {
  const auto algorithms = names(Collective::kAllReduce);
  run([&](int, Communicator& comm) {
    for (const auto& algorithm : algorithms) {
      // Around eager limits, windows, segments and lanes, and several of each.
      for (const std::size_t elems : {8'191, 8'192, 8'193, 65'536, 131'073, 700'001}) {
        const CallOptions options{.algorithm = algorithm, .blocking = true};
        check_all_reduce(comm, DType::kF32, ReduceOp::kSum, elems, 1, options);
        check_all_reduce(comm, DType::kBF16, ReduceOp::kAvg, elems, 0, options);
      }
    }
  });
}

TEST_P(CollectivesTest, AllGather) {
  const auto algorithms = names(Collective::kAllGather);
  run([&](int rank, Communicator& comm) {
    for (const auto& algorithm : algorithms) {
      for (const std::size_t elems : {0, 1, 13, 8'192, 300'001}) {
        const auto in = input_of(DType::kF32, rank, elems);
        std::vector<std::byte> expected;
        for (int r = 0; r < ranks_; ++r) {
          const auto block = input_of(DType::kF32, r, elems);
          expected.insert(expected.end(), block.begin(), block.end());
        }
        std::vector<std::byte> out(expected.size());
        comm.all_gather(in, out, DType::kF32, {.algorithm = algorithm}).wait();
        ASSERT_TRUE(same_bytes(out, expected)) << algorithm << " " << elems;
        // In place: the input is the rank's own block of the output.
        std::vector<std::byte> place(expected.size());
        const auto mine =
            Bytes(place).subspan(static_cast<std::size_t>(rank) * in.size(), in.size());
        std::ranges::copy(in, mine.begin());
        comm.all_gather(mine, place, DType::kF32, {.algorithm = algorithm}).wait();
        ASSERT_TRUE(same_bytes(place, expected)) << algorithm << " in place " << elems;
      }
    }
  });
}

TEST_P(CollectivesTest, ReduceScatter) {
  const auto algorithms = names(Collective::kReduceScatter);
  run([&](int rank, Communicator& comm) {
    for (const auto& algorithm : algorithms) {
      for (const auto dtype : {DType::kF32, DType::kF16, DType::kI8, DType::kC128}) {
        for (const auto op : {ReduceOp::kSum, ReduceOp::kAvg, ReduceOp::kPremulSum}) {
          if (!supports(op, dtype)) continue;
          for (const std::size_t elems : {0, 1, 13, 9'000, 150'001}) {
            const auto in = input_of(dtype, rank, elems * static_cast<std::size_t>(ranks_));
            const auto expected =
                reduction_of(dtype, op, ranks_, elems * static_cast<std::size_t>(rank), elems);
            std::vector<std::byte> out(elems * size_of(dtype));
            const auto kept = in;
            comm.reduce_scatter(in, out, dtype, op,
                                {.premul_factor = kPremulFactor, .algorithm = algorithm})
                .wait();
            ASSERT_TRUE(same_bytes(out, expected))
                << algorithm << " " << name_of(dtype) << " " << name_of(op) << elems;
            ASSERT_TRUE(same_bytes(in, kept)) << algorithm << ": changed the input";
          }
        }
      }
    }
  });
}

TEST_P(CollectivesTest, RootedCollectives) {
  const auto broadcasts = names(Collective::kBroadcast);
  run([&](int rank, Communicator& comm) {
    const auto n = static_cast<std::size_t>(ranks_);
    for (int root = 0; root < ranks_; ++root) {
      for (const std::size_t elems : {0, 1, 1'001, 200'003}) {
        const auto mine = input_of(DType::kI32, rank, elems);
        const auto roots = input_of(DType::kI32, root, elems);
        for (const auto& algorithm : broadcasts) {
          auto data = mine;
          comm.broadcast(data, DType::kI32, root, {.algorithm = algorithm}).wait();
          ASSERT_TRUE(same_bytes(data, roots)) << "broadcast " << algorithm << " from " << root;
        }
        std::vector<std::byte> sum(rank == root ? mine.size() : 0);
        comm.reduce(mine, sum, DType::kI32, ReduceOp::kSum, root).wait();
        if (rank == root) {
          ASSERT_TRUE(same_bytes(sum, reduction_of(DType::kI32, ReduceOp::kSum, ranks_, 0, elems)))
              << "reduce";
        }
        std::vector<std::byte> all(rank == root ? mine.size() * n : 0);
        comm.gather(mine, all, DType::kI32, root).wait();
        std::vector<std::byte> block(mine.size());
        comm.scatter(all, block, DType::kI32, root).wait();
        ASSERT_TRUE(same_bytes(block, mine)) << "gather then scatter";
      }
    }
  });
}

TEST_P(CollectivesTest, AllToAllAndBarrier) {
  run([&](int rank, Communicator& comm) {
    const auto n = static_cast<std::size_t>(ranks_);
    for (const std::size_t elems : {0, 1, 5'001, 100'001}) {
      std::vector<std::int32_t> in(elems * n);
      std::vector<std::int32_t> out(elems * n, -1);
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = rank * 1000 + static_cast<int>(i / elems);
      comm.all_to_all(bytes_of(in), writable_bytes_of(out), DType::kI32).wait();
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out[i], static_cast<int>(i / elems) * 1000 + rank);
      }
      comm.barrier().wait();
    }
  });
}

TEST_P(CollectivesTest, SendAndReceiveMatchByTagAndOrder) {
  if (ranks_ < 2) return;  // nobody to send to
  run([&](int rank, Communicator& comm) {
    for (const std::size_t elems : {0, 1, 1'000, 20'000, 500'000}) {
      std::vector<std::int32_t> first(elems, rank), second(elems, rank + 100), got(elems),
          later(elems);
      const int right = (rank + 1) % ranks_;
      const int left = (rank + ranks_ - 1) % ranks_;
      const Work a = comm.send(bytes_of(first), DType::kI32, right, 1);
      const Work b = comm.send(bytes_of(second), DType::kI32, right, 1);
      const Work c = comm.send(bytes_of(second), DType::kI32, right, 2);
      // The tag that was sent last is received first.
      comm.recv(writable_bytes_of(later), DType::kI32, left, 2).wait();
      EXPECT_EQ(later, std::vector<std::int32_t>(elems, left + 100));
      comm.recv(writable_bytes_of(got), DType::kI32, left, 1).wait();
      EXPECT_EQ(got, std::vector<std::int32_t>(elems, left));
      comm.recv(writable_bytes_of(got), DType::kI32, left, 1).wait();
      EXPECT_EQ(got, std::vector<std::int32_t>(elems, left + 100));
      a.wait();
      b.wait();
      c.wait();
    }
  });
}

// Many at once, started in one order and awaited in another; small sends run ahead of their
// receives.
TEST_P(CollectivesTest, ManyAtOnce) {
  run([&](int rank, Communicator& comm) {
    std::vector<std::vector<float>> data;
    std::vector<Work> works;
    for (std::size_t i = 0; i < 40; ++i) {
      data.emplace_back(1 + i * 2'000, static_cast<float>(rank + 1));
      works.push_back(comm.all_reduce(bytes_of(data[i]), writable_bytes_of(data[i]), DType::kF32,
                                      ReduceOp::kSum));
    }
    for (std::size_t i = works.size(); i-- > 0;) works[i].wait();
    const auto expected = static_cast<float>(ranks_ * (ranks_ + 1) / 2);
    for (const auto& values : data) {
      ASSERT_TRUE(std::ranges::all_of(values, [&](float v) { return v == expected; }));
    }
    // 64 broadcasts of 8 KiB: the root runs far ahead of what may lie unmatched.
    for (int i = 0; i < 64; ++i) {
      std::vector<int> values(2'048, rank == 0 ? i : -1);
      comm.broadcast(writable_bytes_of(values), DType::kI32, 0).wait();
      ASSERT_EQ(values.back(), i);
    }
  });
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Links links : {Links::kMemory, Links::kShm, Links::kTcp}) {
    for (const int ranks : {1, 2, 3, 4, 8}) cases.push_back({links, ranks});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Links, CollectivesTest, testing::ValuesIn(all_cases()), case_name);

TEST(Subgroups, ShareTheProcessesLinks) {
  const World world(4, Links::kMemory);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto context = world.context(rank);
      Communicator all = context->communicator({.name = "all"});
      Communicator half = context->communicator(
          {.name = rank % 2 == 0 ? "even" : "odd", .ranks = {rank % 2, rank % 2 + 2}});
      std::vector<int> value = {1 << rank};
      half.all_reduce(bytes_of(value), writable_bytes_of(value), DType::kI32, ReduceOp::kSum)
          .wait();
      EXPECT_EQ(value[0], rank % 2 == 0 ? 5 : 10);
      all.all_reduce(bytes_of(value), writable_bytes_of(value), DType::kI32, ReduceOp::kSum).wait();
      EXPECT_EQ(value[0], 30);
    });
  }
  for (auto& rank : ranks) rank.join();
}

TEST(Windows, OfAnySizeHoldWholeElements) {
  for (const std::uint64_t bytes : {65'537u, 100'001u, 131'000u}) {
    Config config;
    config.window_bytes = bytes;
    const auto ends = World(3, Links::kMemory, config).run([](int, Communicator& comm) {
      for (const DType dtype : {DType::kF32, DType::kC128})
        check_all_reduce(comm, dtype, ReduceOp::kSum, 100'003, 0, {});
    });
    EXPECT_THAT(ends, testing::Each("")) << bytes;
  }
}

// Only the root has a result; what others pass for it, of whatever size, is not looked at.
TEST(Reduce, LeavesTheOutputOfOthersAlone) {
  const auto ends = World(3).run([](int rank, Communicator& comm) {
    const std::vector<float> in(200'000, 1.0F);
    std::vector<float> out(rank == 0 ? in.size() : 4 * in.size(), 7.0F);
    comm.reduce(bytes_of(in), writable_bytes_of(out), DType::kF32, ReduceOp::kSum, 0).wait();
    EXPECT_EQ(out, std::vector<float>(out.size(), rank == 0 ? 3.0F : 7.0F)) << rank;
  });
  EXPECT_THAT(ends, testing::Each(""));
}

// As if the input had been copied first, wherever the two overlap.
TEST_P(CollectivesTest, InputAndOutputMayOverlap) {
  run([](int, Communicator& comm) {
    const auto n = static_cast<std::size_t>(comm.size());
    const auto mine = static_cast<float>(comm.rank());
    for (const std::size_t elems : {8u, 5000u, 200'000u}) {
      const auto part = [&](std::vector<float>& all, std::size_t from, std::size_t count) {
        return writable_bytes_of(all).subspan(from * sizeof(float), count * sizeof(float));
      };
      std::vector<float> all(n * elems);
      std::iota(all.begin(), all.end(), mine);
      comm.all_to_all(bytes_of(all), writable_bytes_of(all), DType::kF32).wait();
      for (std::size_t r = 0; r < n; ++r) {
        const std::size_t at = r * elems + elems - 1;
        ASSERT_EQ(all[at], static_cast<float>(static_cast<std::size_t>(comm.rank()) * elems + r +
                                              elems - 1));
      }
      // At another place than this rank's own, and between two.
      const std::size_t last = (n - 1) * elems;
      for (const std::size_t at : {std::size_t{0}, std::min(elems / 2, last), last}) {
        std::ranges::fill(all, -1.0F);
        std::fill_n(all.begin() + static_cast<std::ptrdiff_t>(at), elems, mine);
        comm.all_gather(part(all, at, elems), writable_bytes_of(all), DType::kF32).wait();
        for (std::size_t r = 0; r < n; ++r) {
          ASSERT_EQ(all[r * elems], static_cast<float>(r)) << "at " << at;
          ASSERT_EQ(all[(r + 1) * elems - 1], static_cast<float>(r)) << "at " << at;
        }
        std::iota(all.begin(), all.end(), mine);
        comm.reduce_scatter(bytes_of(all), part(all, at, elems), DType::kF32, ReduceOp::kSum)
            .wait();
        const auto ranks = static_cast<float>(n);
        const float offset = ranks * mine * static_cast<float>(elems) + ranks * (ranks - 1) / 2;
        for (std::size_t i = 0; i < elems; ++i)
          ASSERT_EQ(all[at + i], offset + ranks * static_cast<float>(i)) << "at " << at;
      }
    }
  });
}

}  // namespace
}  // namespace treadle
