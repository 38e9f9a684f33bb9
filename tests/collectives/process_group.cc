#include "tests/collectives/process_group.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace treadle {
namespace {

constexpr std::size_t kSmallElems = 64;
constexpr std::size_t kLargeElems = 3 << 20;
constexpr int kRoundsBefore = 5;  // of a loop, before the victim may be hit

void exchange_with_neighbours(Communicator& comm, CallBuffers& b, const CallOptions& options) {
  const int right = (comm.rank() + 1) % comm.size();
  const int left = (comm.rank() + comm.size() - 1) % comm.size();
  const Work sent = comm.send(bytes_of(b.one), DType::kF32, right, 5, options);
  const Work received = comm.recv(writable_bytes_of(b.other), DType::kF32, left, 5, options);
  sent.wait();
  received.wait();
}

// Where an operation has a root it is rank 0.
std::vector<OperationCase> make_operation_cases() {
  using Options = const CallOptions&;
  constexpr auto kType = DType::kF32;
  constexpr auto kSum = ReduceOp::kSum;
  const auto with = [](auto call) {
    return [call](Communicator& c, CallBuffers& b, Options o) {
      const Work work = call(c, b, o);
      work.wait();
    };
  };
  return {
      {"all_reduce", {"all_reduce"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.all_reduce(bytes_of(b.one), writable_bytes_of(b.other), kType, kSum, o);
       })},
      {"broadcast", {"broadcast"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.broadcast(writable_bytes_of(b.one), kType, 0, o);
       })},
      {"all_gather", {"all_gather"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.all_gather(bytes_of(b.one), writable_bytes_of(b.all), kType, o);
       })},
      {"reduce_scatter", {"reduce_scatter"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.reduce_scatter(bytes_of(b.all), writable_bytes_of(b.one), kType, kSum, o);
       })},
      {"reduce", {"reduce"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.reduce(bytes_of(b.one), writable_bytes_of(b.other), kType, kSum, 0, o);
       })},
      {"gather", {"gather"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.gather(bytes_of(b.one), writable_bytes_of(b.all), kType, 0, o);
       })},
      {"scatter", {"scatter"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.scatter(bytes_of(b.all), writable_bytes_of(b.one), kType, 0, o);
       })},
      {"all_to_all", {"all_to_all"}, with([=](Communicator& c, CallBuffers& b, Options o) {
         return c.all_to_all(bytes_of(b.all), writable_bytes_of(b.all_out), kType, o);
       })},
      {"barrier", {"barrier"}, with([=](Communicator& c, CallBuffers&, Options o) {
         return c.barrier(o);
       })},
      {"send_recv", {"send of", "recv of"}, exchange_with_neighbours},
  };
}

}  // namespace

const std::vector<OperationCase>& operation_cases() {
  static const auto kCases = make_operation_cases();
  return kCases;
}

std::string name_of(Moment moment) {
  return moment == Moment::kNeverCalled ? "before_its_call"
         : moment == Moment::kSmallLoop ? "in_a_loop"
                                        : "in_a_large_one";
}

FailingGroup::FailingGroup(Options wanted)
    : options(std::move(wanted)),
      port_(options.tcp_store ? free_port() : 0),
      processes(kRanks, [this](int rank, RankProcess& self) { body(rank, self); }) {}

std::shared_ptr<Store> FailingGroup::store(int rank) const {
  if (!options.tcp_store) return file_store(directory_.path());
  return tcp_store(fmt::format("127.0.0.1:{}", port_), rank,
                   deadline_after(std::chrono::seconds(20)));
}

void FailingGroup::body(int rank, RankProcess& self) const {
  Config config = options.config;
  config.log_level = "error";
  if (options.links == Links::kTcp) config.transport = "tcp";
  const auto context = Context::create(
      {.rank = rank, .ranks = kRanks, .store = store(rank), .config = config, .transports = {}});
  Communicator comm = context->communicator({.name = "world"});
  try {
    comm.barrier().wait();
    call_until_error(rank, comm, self);
  } catch (const Error& error) {
    self.report(
        fmt::format("error {} ({}): {}", error.failed_rank(), name_of(error.code()), error.what()));
  }
}

void FailingGroup::call_until_error(int rank, Communicator& comm, RankProcess& self) const {
  CallBuffers buffers(options.moment == Moment::kLarge ? kLargeElems : kSmallElems, kRanks);
  CallOptions call{.blocking = options.moment == Moment::kSmallLoop};
  if (options.timeout) call.timeout = options.timeout(rank);
  if (options.moment == Moment::kNeverCalled) {
    self.report("there");
    if (rank == options.victim) {
      self.await_go();
      if (options.instead_of_call) options.instead_of_call(comm);
    }
  }
  for (int round = 0;; ++round) {
    if (round == kRoundsBefore) self.report("there");
    options.operation.call(comm, buffers, call);
  }
}

bool FailingGroup::await_moment(Deadline by) {
  for (int rank = 0; rank < kRanks; ++rank) {
    // In a loop some ranks are ahead of others: it is the victim's moment that counts.
    if (options.moment != Moment::kNeverCalled && rank != options.victim) continue;
    if (!processes.await_report(rank, "there", by)) {
      ADD_FAILURE() << "rank " << rank << " does not get there: " << processes.said(rank);
      return false;
    }
  }
  return true;
}

std::vector<int> FailingGroup::survivors() const {
  std::vector<int> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    if (rank != options.victim) ranks.push_back(rank);
  }
  return ranks;
}

std::string FailingGroup::expect_error_and_exit(int rank, Deadline by) {
  const auto error = processes.await_report(rank, "error ", by);
  EXPECT_TRUE(error) << "no error in time; " << processes.said(rank);
  EXPECT_EQ(processes.await_end(rank, by), 0) << "no clean exit in time; " << processes.said(rank);
  return error.value_or("");
}

void FailingGroup::expect_survivors_blame_victim(Deadline by) {
  for (const int rank : survivors()) {
    SCOPED_TRACE(fmt::format("{} on rank {}", options.operation.name, rank));
    const std::string error = expect_error_and_exit(rank, by);
    if (error.empty()) continue;
    EXPECT_THAT(error, testing::HasSubstr(fmt::format("rank {}", options.victim)));
    EXPECT_TRUE(std::ranges::any_of(
        options.operation.shown,
        [&](const auto& name) { return error.find(name) != std::string::npos; }))
        << "names no operation: " << error;
    EXPECT_THAT(error, testing::StartsWith(fmt::format("error {} ", options.victim)))
        << "blames another rank";
  }
}

}  // namespace treadle
