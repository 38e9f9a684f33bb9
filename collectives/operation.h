// One submitted operation: what it is, its deadline, and its end. Shared by the user's Work and the
// loop.
//
// complete() is called once, by whoever runs the operation: the loop, or the calling thread of an
// inline one. done() may be read by any thread; the error is readable once done() is true.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "collectives/description.h"
#include "core/clock.h"
#include "core/error.h"

namespace treadle {

class ContextState;

// The other side of a point-to-point operation.
struct OtherSide {
  bool is_send = false;
  int rank = -1;  // in the communicator
};

class Operation {
 public:
  Operation(std::shared_ptr<ContextState> owner, const Description& what, std::uint64_t number,
            milliseconds limit, std::optional<OtherSide> with = {});

  bool done() const { return done_.load(std::memory_order_acquire); }
  const std::optional<Error>& error() const { return error_; }
  void complete(std::optional<Error> error);
  void on_done(std::function<void(const Error*)> callback);
  std::string text() const;  // "all_reduce #7 of 1024 x f32, sum"

  const std::shared_ptr<ContextState> context;
  const Description description;
  const std::uint64_t sequence;
  const milliseconds timeout;
  const Deadline submitted;
  const Deadline deadline;
  const std::optional<OtherSide> other;  // point-to-point only
  Deadline finished{};

 private:
  std::atomic<bool> done_{false};
  std::optional<Error> error_;
  std::mutex mutex_;  // guards callback_ and the decision who runs it
  std::function<void(const Error*)> callback_;
};

}  // namespace treadle
