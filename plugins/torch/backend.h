// The c10d backend "treadle": checks arguments, hands bytes to a Communicator, returns a Work.
//
// A process group's ranks meet through its store. The default group's backend owns the Context
// (engine, links); backends of later groups borrow it and are communicators among its ranks, so
// that they open nothing of their own. Without such a parent a backend makes its own Context.
//
// Threads: any. Torch calls these functions without Python's interpreter lock. In a forked child
// every call raises, and the destructor leaves the parent's sockets, memory and threads alone.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "collectives/communicator.h"
#include "plugins/torch/recorder.h"
#include "plugins/torch/tensors.h"
#include "plugins/torch/torch_version.h"
#include "plugins/torch/work.h"

namespace treadle {

struct TreadleOptions final : c10d::Backend::Options {
  explicit TreadleOptions(std::chrono::milliseconds limit = kBackendDefaultTimeout)
      : c10d::Backend::Options("treadle", limit) {}
  c10::intrusive_ptr<c10d::Backend::Options> clone() const TREADLE_SINCE_2_14(override) {
    return c10::make_intrusive<TreadleOptions>(*this);
  }
};

class TreadleBackend final : public c10d::Backend {
 public:
  using WorkPtr = c10::intrusive_ptr<c10d::Work>;

  struct Membership {
    std::string group_name;
    std::vector<int> global_ranks;              // of the group's members; empty: rank for rank
    c10::intrusive_ptr<TreadleBackend> parent;  // of the default group; may be null
  };

  // Waits for nobody. Throws if the settings or the options make no sense.
  TreadleBackend(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                 c10::intrusive_ptr<TreadleOptions> options, const Membership& membership);
  ~TreadleBackend() override;

  const std::string getBackendName() const override { return "treadle"; }
  c10::intrusive_ptr<c10d::Backend::Options> getBackendOptions() override { return options_; }
  bool supportsCoalescing() const override { return true; }
  void setTimeout(std::chrono::milliseconds timeout) override;
  void setSequenceNumberForGroup() override {}
  uint64_t getSequenceNumberForGroup() override;
  c10d::ErrorType getError() override;
  void abort() override;
  void shutdown() override;

  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  WorkPtr allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  WorkPtr allreduce_coalesced(Tensors& tensors,
                              const c10d::AllreduceCoalescedOptions& opts) override;
  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) override;
  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& opts) override;

  WorkPtr allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                    const c10d::AllgatherOptions& opts) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const c10d::AllgatherOptions& opts) override;
  WorkPtr allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                              const c10d::AllgatherOptions& opts) override;
  WorkPtr allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::AllgatherOptions& opts) override;
  WorkPtr gather(std::vector<Tensors>& outputs, Tensors& inputs,
                 const c10d::GatherOptions& opts) override;
  WorkPtr scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                  const c10d::ScatterOptions& opts) override;

  WorkPtr reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                         const c10d::ReduceScatterOptions& opts) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& opts) override;
  WorkPtr reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& opts) override;

  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits,
                        const c10d::AllToAllOptions& opts) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) override;

  WorkPtr send(Tensors& tensors, int to, int tag) override;
  WorkPtr recv(Tensors& tensors, int from, int tag) override;
  WorkPtr recvAnysource(Tensors& tensors, int tag) override;
  WorkPtr barrier(const c10d::BarrierOptions& opts) override;
  void monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) override;

  void startCoalescing() override;
  WorkPtr endCoalescing() override;

#if TORCH_VERSION_MINOR >= 14
  // The names that torch calls from 2.14 on. Both are overridden: a base method that forwards
  // refuses to be entered twice on one thread.
  WorkPtr all_gather_single(at::Tensor& output, at::Tensor& input,
                            const c10d::AllgatherOptions& opts) override {
    return _allgather_base(output, input, opts);
  }
  WorkPtr all_gather_single_coalesced(Tensors& outputs, Tensors& inputs,
                                      const c10d::AllgatherOptions& opts) override {
    return allgather_into_tensor_coalesced(outputs, inputs, opts);
  }
  WorkPtr reduce_scatter_single(at::Tensor& output, at::Tensor& input,
                                const c10d::ReduceScatterOptions& opts) override {
    return _reduce_scatter_base(output, input, opts);
  }
  WorkPtr reduce_scatter_single_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& opts) override {
    return reduce_scatter_tensor_coalesced(outputs, inputs, opts);
  }
  WorkPtr all_to_all_single(at::Tensor& output, at::Tensor& input,
                            std::vector<int64_t>& output_splits, std::vector<int64_t>& input_splits,
                            const c10d::AllToAllOptions& opts) override {
    return alltoall_base(output, input, output_splits, input_splits, opts);
  }
  WorkPtr gather_single(at::Tensor& output, at::Tensor& input,
                        const c10d::GatherOptions& opts) override;
  WorkPtr gather_into_tensor(at::Tensor& output, at::Tensor& input,
                             const c10d::GatherOptions& opts) override {
    return gather_single(output, input, opts);
  }
#endif

  // Beyond c10d: for the Python package.
  Recorder& recorder() { return *recorder_; }
  std::vector<std::string> links() const;
  std::string failure() const;  // why the group is broken; empty if it is not
  void abort_because(const std::string& reason);
  bool usable_here() const;  // not shut down, and not in a forked child

 private:
  // What must not be touched in a forked child.
  struct Live {
    std::shared_ptr<Context> context;
    Communicator communicator;
  };

  // One call of the user's, before its operations are submitted.
  struct Call {
    const char* title;  // a literal, "treadle:all_reduce"
    c10d::OpType type;
    std::chrono::milliseconds timeout;
    bool asynchronous;
  };
  using Operations = std::vector<treadle::Work>;
  using Submit = std::function<void(Communicator&, const CallOptions&, Operations&)>;

  static std::unique_ptr<Live> make_live(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                         int size, const TreadleOptions& options,
                                         const Membership& membership);

  Communicator& communicator() const;
  Caller caller(const char* name) const { return {name, rank_, size_}; }
  // Runs `submit`, which submits one or more operations, and returns their Work: done, if the
  // caller would wait at once anyway. `inputs` are what profilers show and statistics count.
  WorkPtr run(const Call& call, const Tensors& inputs, Operands operands, const Submit& submit);
  WorkPtr all_to_all_pairs(const Call& call, const Tensors& outputs, const Tensors& inputs,
                           const Tensors& shown, Operands operands);
  WorkPtr gather_to(const Call& call, const at::Tensor& input, int root, const at::Tensor& flat,
                    Operands operands);
  WorkPtr allgather_unequal(const Call& call, const Tensors& outputs, const at::Tensor& input);
  WorkPtr reduce_scatter_unequal(const Call& call, const at::Tensor& output, const Tensors& inputs,
                                 const Reduction& reduction, DType dtype);
  void remember_for_coalescing(const c10::intrusive_ptr<TreadleWork>& work);
  bool coalescing_here() const;

  void lead_monitored_barrier(milliseconds timeout, bool wait_all_ranks);
  void follow_monitored_barrier(milliseconds timeout);

  const pid_t process_;
  const c10::intrusive_ptr<TreadleOptions> options_;
  const std::shared_ptr<Recorder> recorder_ = std::make_shared<Recorder>();
  std::unique_ptr<Live> live_;
  std::atomic<bool> shut_down_{false};

  mutable std::mutex coalescing_mutex_;
  std::map<std::thread::id, std::vector<c10::intrusive_ptr<TreadleWork>>> coalescing_;
};

}  // namespace treadle
