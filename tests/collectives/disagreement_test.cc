// Ranks that call different things, or not at all: an error on all of them that shows both sides.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/world.h"

namespace treadle {
namespace {

using Call = std::function<Work(Communicator&, std::vector<float>&)>;

CallOptions options() { return {.timeout = std::chrono::seconds(20)}; }

Call reduce_of(std::size_t elems, DType dtype, ReduceOp op) {
  return [=](Communicator& comm, std::vector<float>& v) {
    v.assign(elems, 1.0F);
    return comm.all_reduce(bytes_of(v), writable_bytes_of(v), dtype, op, options());
  };
}
Call broadcast_from(int root) {
  return [=](Communicator& comm, std::vector<float>& v) {
    v.assign(64, 1.0F);
    return comm.broadcast(writable_bytes_of(v), DType::kF32, root, options());
  };
}
Call the_barrier() {
  return [](Communicator& comm, std::vector<float>&) { return comm.barrier(options()); };
}

struct Dispute {
  std::string name;
  Call one;    // ranks 0 and 2
  Call other;  // rank 1
  std::string shows_one;
  std::string shows_other;
};

std::vector<Dispute> disputes() {
  return {
      {"size", reduce_of(64, DType::kF32, ReduceOp::kSum),
       reduce_of(65, DType::kF32, ReduceOp::kSum), "64 x f32", "65 x f32"},
      {"large_size", reduce_of(2, DType::kF32, ReduceOp::kSum),
       reduce_of(1 << 20, DType::kF32, ReduceOp::kSum), "2 x f32", "1048576 x f32"},
      {"dtype", reduce_of(64, DType::kF32, ReduceOp::kSum),
       reduce_of(64, DType::kI32, ReduceOp::kSum), "f32", "i32"},
      {"operator", reduce_of(64, DType::kF32, ReduceOp::kSum),
       reduce_of(64, DType::kF32, ReduceOp::kMax), "sum", "max"},
      {"operation", reduce_of(64, DType::kF32, ReduceOp::kSum), the_barrier(), "all_reduce",
       "barrier"},
      {"large_operation", reduce_of(1 << 20, DType::kF32, ReduceOp::kSum), broadcast_from(0),
       "all_reduce", "broadcast"},
      {"root", broadcast_from(0), broadcast_from(1), "root 0", "root 1"},
  };
}

struct Case {
  Links links;
  Dispute dispute;
};
std::string case_name(const testing::TestParamInfo<Case>& tested) {
  return name_of(tested.param.links) + "_" + tested.param.dispute.name;
}

class DisagreementTest : public testing::TestWithParam<Case> {};

TEST_P(DisagreementTest, EveryRankSeesBothSides) {
  const Dispute& dispute = GetParam().dispute;
  const auto start = Clock::now();
  const auto ends = World(3, GetParam().links).run([&](int rank, Communicator& comm) {
    std::vector<float> data;
    // A rank that has returned already (the root of a broadcast, say) gets the error at its next
    // call.
    (rank == 1 ? dispute.other : dispute.one)(comm, data).wait();
    std::vector<float> next;
    reduce_of(1, DType::kF32, ReduceOp::kSum)(comm, next).wait();
  });
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  for (const auto& end : ends) {
    EXPECT_NE(end.find("disagree"), std::string::npos) << end;
    EXPECT_NE(end.find(dispute.shows_one), std::string::npos) << end;
    EXPECT_NE(end.find(dispute.shows_other), std::string::npos) << end;
    EXPECT_NE(end.find("rank 1"), std::string::npos) << end;
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Links links : {Links::kMemory, Links::kShm, Links::kTcp}) {
    for (auto& dispute : disputes()) cases.push_back({links, dispute});
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Links, DisagreementTest, testing::ValuesIn(all_cases()), case_name);

class LinksTest : public testing::TestWithParam<Links> {};
std::string links_name(const testing::TestParamInfo<Links>& tested) {
  return name_of(tested.param);
}

TEST_P(LinksTest, ARankThatNeverCallsIsNamedAtTheDeadline) {
  const auto start = Clock::now();
  const auto ends = World(3, GetParam()).run([&](int rank, Communicator& comm) {
    comm.barrier().wait();
    if (rank == 2) {
      // It is alive and busy elsewhere: it learns of the failure at its next call.
      while (!comm.error()) std::this_thread::yield();
      comm.barrier().wait();
    }
    std::vector<float> v(100, 1.0F);
    comm.all_reduce(bytes_of(v), writable_bytes_of(v), DType::kF32, ReduceOp::kSum,
                    {.timeout = milliseconds(800)})
        .wait();
  });
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
  for (const auto& end : ends) {
    EXPECT_NE(end.find("rank 2 never called it"), std::string::npos) << end;
    EXPECT_NE(end.find("all_reduce"), std::string::npos) << end;
  }
}

TEST_P(LinksTest, ARankThatNeverStartsIsNamedAtTheDeadline) {
  const World world(3, GetParam());
  std::vector<std::thread> ranks;
  for (const int rank : {0, 1}) {
    ranks.emplace_back([&, rank] {
      const auto context = world.context(rank);
      Communicator comm = context->communicator({.name = "world"});
      try {
        comm.barrier({.timeout = milliseconds(2'500)}).wait();
        ADD_FAILURE() << "a barrier without rank 2";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kTimeout);
        EXPECT_NE(std::string(error.what()).find("rank 2 never started"), std::string::npos)
            << error.what();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
}

TEST_P(LinksTest, AbortEndsEveryRanksOperations) {
  const auto ends = World(3, GetParam()).run([&](int rank, Communicator& comm) {
    comm.barrier().wait();
    if (rank == 0) {
      comm.abort("enough");
      comm.abort("twice is fine");
    }
    comm.barrier().wait();
  });
  for (const auto& end : ends) {
    EXPECT_NE(end.find("aborted on rank 0: enough"), std::string::npos) << end;
  }
}

TEST_P(LinksTest, SizesOfSendAndReceiveMustBeEqual) {
  const auto ends = World(2, GetParam()).run([&](int rank, Communicator& comm) {
    std::vector<float> v(rank == 0 ? 10 : 11);
    if (rank == 0) comm.send(bytes_of(v), DType::kF32, 1, 0).wait();
    if (rank == 1) comm.recv(writable_bytes_of(v), DType::kF32, 0, 0).wait();
    comm.barrier().wait();
  });
  for (const auto& end : ends) {
    EXPECT_NE(end.find("sent 10 x f32 (40 bytes)"), std::string::npos) << end;
    EXPECT_NE(end.find("expects 44"), std::string::npos) << end;
  }
}

TEST_P(LinksTest, TypesOfSendAndReceiveMustBeEqual) {
  for (const std::size_t elems : {10, 1'000'000}) {  // eager, and announced
    const auto ends = World(2, GetParam()).run([&](int rank, Communicator& comm) {
      std::vector<float> v(elems);
      if (rank == 0) comm.send(bytes_of(v), DType::kF32, 1, 0).wait();
      if (rank == 1) comm.recv(writable_bytes_of(v), DType::kI32, 0, 0).wait();
      comm.barrier().wait();
    });
    for (const auto& end : ends) {
      EXPECT_THAT(end, testing::HasSubstr(fmt::format("sent {} x f32", elems)));
      EXPECT_THAT(end, testing::HasSubstr(fmt::format("recv of {} x i32", elems)));
    }
  }
}

TEST_P(LinksTest, ARankThatHasLeftIsNamed) {
  const auto ends = World(2, GetParam()).run([&](int rank, Communicator& comm) {
    comm.barrier().wait();
    if (rank == 1) return comm.shutdown();
    comm.barrier().wait();
  });
  EXPECT_EQ(ends[1], "");
  EXPECT_NE(ends[0].find("rank 1 has left the group after 1 operations"), std::string::npos)
      << ends[0];
}

INSTANTIATE_TEST_SUITE_P(Links, LinksTest,
                         testing::Values(Links::kMemory, Links::kShm, Links::kTcp), links_name);

// The message is there before the receive is posted: one of a later tag has come through the same
// lane.
TEST_P(LinksTest, ASizeThatDiffersFromAMessageThatWaitsEndsTheReceive) {
  const auto ends = World(2, GetParam()).run([](int rank, Communicator& comm) {
    std::vector<std::byte> ten(10);
    std::vector<std::byte> eleven(11);
    if (rank == 0) {
      comm.send(ten, DType::kU8, 1, 1, options()).wait();
      comm.send(ten, DType::kU8, 1, 2, options()).wait();
      comm.barrier(options()).wait();
    } else {
      comm.recv(ten, DType::kU8, 0, 2, options()).wait();
      comm.recv(eleven, DType::kU8, 0, 1, options()).wait();
    }
  });
  for (const std::string& end : ends) {
    EXPECT_THAT(end, testing::HasSubstr("sent 10 x u8 (10 bytes)"));
    EXPECT_THAT(end, testing::HasSubstr("expects 11"));
  }
}

TEST(Leaving, EndsMessagesThatNeedTheRank) {
  Config config;
  config.heartbeat = milliseconds(200);
  const auto ends = World(2, Links::kMemory, config).run([](int rank, Communicator& comm) {
    comm.barrier(options()).wait();
    std::vector<std::byte> one(1);
    if (rank == 0) comm.recv(one, DType::kU8, 1, 0, options()).wait();
  });
  EXPECT_THAT(ends[0], testing::HasSubstr("rank 1"));
  EXPECT_THAT(ends[0], testing::Not(testing::HasSubstr("imed out")));
  EXPECT_EQ(ends[1], "");
}

TEST(Arguments, AreCheckedAtTheCall) {
  World(1).run([](int, Communicator& comm) {
    std::vector<std::byte> four(4);
    std::vector<std::byte> eight(8);
    EXPECT_THROW(comm.all_reduce(four, eight, DType::kF32, ReduceOp::kSum), std::invalid_argument);
    EXPECT_THROW(comm.all_reduce(four, four, DType::kF64, ReduceOp::kSum), std::invalid_argument);
    EXPECT_THROW(comm.broadcast(four, DType::kF32, 1), std::invalid_argument);
    EXPECT_THROW(comm.send(four, DType::kU8, 0, 0), std::invalid_argument);
    EXPECT_THROW(comm.all_reduce(four, four, DType::kF32, ReduceOp::kSum, {.algorithm = "none"}),
                 std::invalid_argument);
    comm.barrier().wait();
  });
}

TEST(Settings, AnAlgorithmThatDoesNotExistIsRefusedBeforeAnyCall) {
  Config config;
  config.allgather = "nonsense";
  try {
    World(1, Links::kMemory, config).context(0);
    FAIL() << "it was accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'nonsense'"));
    EXPECT_THAT(error.what(), testing::HasSubstr("auto, "));
  }
}

// Whether it can be is known when the ranks have met.
TEST(Settings, AnAlgorithmThatTheseRanksCannotUseIsAnErrorOnAllOfThem) {
  Config config;
  config.allreduce = "local";
  const auto ends = World(2, Links::kTcp, config).run([](int, Communicator& comm) {
    std::vector<float> v(4);
    comm.all_reduce(bytes_of(v), writable_bytes_of(v), DType::kF32, ReduceOp::kSum, options())
        .wait();
  });
  for (const std::string& end : ends) {
    EXPECT_THAT(end, testing::HasSubstr("algorithm 'local' needs all ranks on one host"));
    EXPECT_THAT(end, testing::HasSubstr("all_reduce #0 of 4 x f32"));
  }
}

TEST(Settings, ThatDifferAreNamed) {
  const auto map = memory_store_map();
  const auto hub = memory_hub();
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      Config config;
      config.log_level = "error";
      if (rank == 1) config.window_bytes *= 2;
      const auto context = Context::create({.rank = rank,
                                            .ranks = 2,
                                            .store = memory_store(map),
                                            .config = config,
                                            .transports = {memory_row(hub)}});
      Communicator comm = context->communicator({.name = "world"});
      try {
        comm.barrier().wait();
        ADD_FAILURE() << "different windows went unnoticed";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("TREADLE_WINDOW_BYTES=786432"), std::string::npos)
            << error.what();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
}

}  // namespace
}  // namespace treadle
