// A group of rank processes that call collectives until something fails, for tests of failure.
//
// Every rank makes a context over a file store, meets the others at a barrier, then calls one
// operation again and again until it throws; it reports "error <failed rank> (<code>): <text>",
// closes its communicator and context and leaves with exit code 0.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/config.h"
#include "tests/processes.h"
#include "tests/world.h"

namespace treadle {

// The buffers of one rank.
struct CallBuffers {
  CallBuffers(std::size_t elems, int ranks)
      : one(elems), other(elems), all(elems * static_cast<std::size_t>(ranks)), all_out(all) {}
  std::vector<float> one;
  std::vector<float> other;
  std::vector<float> all;
  std::vector<float> all_out;
};

struct OperationCase {
  std::string name;
  std::vector<std::string> shown;  // an error's text contains one of them
  std::function<void(Communicator&, CallBuffers&, const CallOptions&)> call;
};
const std::vector<OperationCase>& operation_cases();

// When a rank is hit.
enum class Moment {
  kNeverCalled,  // before its first call of the operation; the others are waiting in theirs
  kSmallLoop,    // in a loop of small blocking operations
  kLarge,        // in a large operation
};
std::string name_of(Moment moment);

class FailingGroup {
 public:
  struct Options {
    OperationCase operation;
    Moment moment = Moment::kNeverCalled;
    Links links = Links::kShm;
    int victim = 1;
    bool tcp_store = false;  // rank 0 serves it; else a directory of files
    Config config = {};
    std::function<milliseconds(int rank)> timeout = nullptr;  // of its calls; null: the default
    std::function<void(Communicator&)> instead_of_call = nullptr;  // the victim's, when it goes
  };
  static constexpr int kRanks = 3;

  explicit FailingGroup(Options options);

  // Returns when every rank is where the moment says; false if one does not get there.
  bool await_moment(Deadline by);
  std::vector<int> survivors() const;
  // Expects of every survivor, before `by`: an error that names the victim and the operation, and a
  // clean exit.
  void expect_survivors_blame_victim(Deadline by);
  // One rank's "error ..." report, "" if there is none by then; expects a clean exit.
  std::string expect_error_and_exit(int rank, Deadline by);

  const Options options;

 private:
  std::shared_ptr<Store> store(int rank) const;
  void body(int rank, RankProcess& self) const;
  void call_until_error(int rank, Communicator& comm, RankProcess& self) const;

  TemporaryDirectory directory_;
  const int port_;

 public:
  Processes processes;
};

}  // namespace treadle
