// The c10d face of one call: one or several operations of the core, and the tensors they use.
//
// Nobody is told when the operations end unless somebody asked for the Future or a profiler
// watches: whoever first sees them all ended (a waiter, a poller, the core's callback) settles the
// work. Settling copies results out, ends the profiler's range, wakes the waiters, completes the
// Future and lets the tensors go, in this order and outside every lock of the core.
//
// A work that is dropped earlier leaves its tensors with the operations until they end.
// Threads: any.
#pragma once
#include <ATen/core/ivalue.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

#include "collectives/communicator.h"
#include "plugins/torch/recorder.h"
#include "plugins/torch/tensors.h"
#include "plugins/torch/torch_version.h"

namespace treadle {

// What the operations of one call use until they end.
struct Operands {
  Tensors tensors;                 // inputs, outputs, scratch: kept alive
  Tensors outputs;                 // the result of the Work and of its Future
  std::function<void()> copy_out;  // from scratch to the user's tensors; may be empty
};

class TreadleWork final : public c10d::Work {
 public:
  // `title` is a literal, "treadle:all_reduce". `inputs` are what a profiler shows.
  TreadleWork(int rank, c10d::OpType type, const char* title, const Tensors& inputs,
              Operands operands, std::shared_ptr<Recorder> recorder);
  ~TreadleWork() override;

  // Called once, when all operations have been submitted. On failure to submit the rest, with those
  // that were, and the work is dropped.
  void begin(std::vector<treadle::Work> operations);

  std::string_view name() const { return name_; }  // "all_reduce"

  bool isCompleted() override;
  bool isSuccess() const override;
  std::exception_ptr exception() const override;
  int sourceRank() const override { return source_rank_; }
  std::vector<at::Tensor> result() override { return operands_.outputs; }
  void synchronize() override {}
  // 0 and less: until the operation's own deadline. More: throws when the time is over, and leaves
  // the operation running.
  bool wait(std::chrono::milliseconds timeout = kNoTimeout) override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  float getDuration() const override;  // in ms; 0 while pending
  uint64_t getSequencenumber() const override { return sequence_; }
  std::chrono::milliseconds getTimeout() const TREADLE_SINCE_2_14(override) { return timeout_; }

 private:
  using Operations = std::shared_ptr<const std::vector<treadle::Work>>;

  Operations operations() const;
  void drop_unfinished();
  bool all_done(const Operations& operations) const;
  void wait_for_all(const Operations& operations, milliseconds timeout);
  void listen(const Operations& operations);
  void settle();
  std::exception_ptr outcome(const std::vector<treadle::Work>& operations);
  void record(const std::vector<treadle::Work>& operations, bool failed);

  const std::string_view name_;
  const std::shared_ptr<Recorder> recorder_;
  const Clock::time_point begin_ = Clock::now();
  const pid_t process_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t sequence_ = 0;
  std::chrono::milliseconds timeout_{0};
  int source_rank_ = -1;
  Clock::duration duration_{};

  // The base class's mutex_ guards the rest, with completed_ and exception_.
  Operands operands_;
  Operations operations_;  // null once settled: the last one may own threads (see settle)
  std::atomic<bool> claimed_{false};
  std::atomic<bool> listening_{false};
  bool settled_ = false;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

// The one Work of a coalesced group: done when all its members are.
class CoalescedWork final : public c10d::Work {
 public:
  CoalescedWork(int rank, std::vector<c10::intrusive_ptr<TreadleWork>> members);

  bool isCompleted() override;
  bool isSuccess() const override;
  std::exception_ptr exception() const override;
  std::vector<at::Tensor> result() override;
  void synchronize() override {}
  bool wait(std::chrono::milliseconds timeout = kNoTimeout) override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  float getDuration() const override;
  uint64_t getSequencenumber() const override;
  std::chrono::milliseconds getTimeout() const TREADLE_SINCE_2_14(override);

 private:
  std::vector<c10::intrusive_ptr<TreadleWork>> members_;
};

// What Python sees for a failure of the world: dist.DistBackendError with the core's text.
std::exception_ptr to_torch(const Error& error);

}  // namespace treadle
