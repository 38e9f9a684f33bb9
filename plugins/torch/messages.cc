// What is made of messages between two ranks: send, recv, all_to_all, the monitored barrier. And
// the plain barrier.
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "plugins/torch/backend.h"

namespace treadle {
namespace {

// The tags of a user's messages are non-negative ints; these can never meet them.
constexpr std::int64_t kAllToAllTag = std::int64_t{1} << 40;
constexpr std::int64_t kMonitoredBarrierTag = kAllToAllTag + 1;

// A monitored barrier watches its own deadline; its messages live longer, so that the group is not
// broken before the leader has said who is missing.
constexpr milliseconds kGrace{5000};

constexpr std::byte kToken{1};

// `tensor` cut along its first dimension; without splits, into equal pieces.
Tensors cut(const Caller& who, const at::Tensor& tensor, const std::vector<int64_t>& splits,
            const char* what) {
  if (splits.size() != static_cast<std::size_t>(who.ranks)) {
    refuse(who, "invalid tensor size: ", splits.size(), " ", what, " split sizes for ", who.ranks,
           " ranks");
  }
  const std::int64_t rows = tensor.dim() == 0 ? 0 : tensor.size(0);
  Tensors pieces;
  std::int64_t at = 0;
  for (const std::int64_t split : splits) {
    if (split < 0 || at + split > rows) break;
    pieces.push_back(tensor.narrow(0, at, split));
    at += split;
  }
  if (at != rows || pieces.size() != splits.size()) {
    refuse(who, "invalid tensor size: ", what, " split sizes [", c10::Join(", ", splits),
           "] do not add up to the first dimension of ", tensor.sizes());
  }
  return pieces;
}

std::vector<int64_t> equal_splits(const at::Tensor& tensor, int ranks) {
  const std::int64_t rows = tensor.dim() == 0 ? 0 : tensor.size(0);
  return std::vector<int64_t>(static_cast<std::size_t>(ranks), rows / ranks);
}

}  // namespace

TreadleBackend::WorkPtr TreadleBackend::send(Tensors& tensors, int to, int tag) {
  const Caller who = caller("send");
  const at::Tensor& tensor = check_single(who, tensors, "tensor");
  check_tensors(who, tensors);
  const at::Tensor memory = dense(tensor);
  const Call call{"treadle:send", c10d::OpType::SEND, c10d::kUnsetTimeout, true};
  return run(
      call, tensors, {.tensors = {memory}, .outputs = {tensor}, .copy_out = {}},
      [&](Communicator& group, const CallOptions& options, Operations& operations) {
        operations.push_back(group.send(bytes_of(memory), moved_dtype(memory), to, tag, options));
      });
}

TreadleBackend::WorkPtr TreadleBackend::recv(Tensors& tensors, int from, int tag) {
  const Caller who = caller("recv");
  const at::Tensor& tensor = check_single(who, tensors, "tensor");
  check_tensors(who, tensors);
  const at::Tensor memory = dense_output(tensor);
  const Call call{"treadle:recv", c10d::OpType::RECV, c10d::kUnsetTimeout, true};
  return run(call, tensors,
             {.tensors = {tensor},
              .outputs = {tensor},
              .copy_out = [tensor, memory] { copy_back(tensor, memory); }},
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               operations.push_back(
                   group.recv(writable_bytes_of(memory), moved_dtype(memory), from, tag, options));
             });
}

TreadleBackend::WorkPtr TreadleBackend::recvAnysource(Tensors&, int) {
  refuse(caller("recv"), "receiving from any source is not supported yet: name the source rank");
}

// ---- all_to_all ----

// A message per pair of ranks. What a rank sends says nothing about what the others send, so even
// equal pieces go this way unless all ranks know that all are equal.
TreadleBackend::WorkPtr TreadleBackend::all_to_all_pairs(const Call& call, const Tensors& outputs,
                                                         const Tensors& inputs,
                                                         const Tensors& shown, Operands operands) {
  // What overlaps an output would be received into before it has been sent.
  Tensors sources = inputs;
  for (at::Tensor& source : sources) {
    if (std::ranges::any_of(
            outputs, [&](const at::Tensor& output) { return share_memory(source, output); })) {
      source = source.detach().clone();
    }
  }
  operands.tensors.insert(operands.tensors.end(), sources.begin(), sources.end());
  const auto me = static_cast<std::size_t>(rank_);
  copy_back(outputs[me], sources[me]);
  return run(call, shown, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               CallOptions each = options;
               each.blocking = false;  // they need one another
               for (int step = 1; step < size_; ++step) {
                 const int peer = (rank_ + size_ - step) % size_;
                 const auto& part = outputs[static_cast<std::size_t>(peer)];
                 operations.push_back(group.recv(writable_bytes_of(part), moved_dtype(part), peer,
                                                 kAllToAllTag, each));
               }
               for (int step = 1; step < size_; ++step) {
                 const int peer = (rank_ + step) % size_;
                 const auto& part = sources[static_cast<std::size_t>(peer)];
                 operations.push_back(
                     group.send(bytes_of(part), moved_dtype(part), peer, kAllToAllTag, each));
               }
             });
}

TreadleBackend::WorkPtr TreadleBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                      std::vector<int64_t>& output_splits,
                                                      std::vector<int64_t>& input_splits,
                                                      const c10d::AllToAllOptions& opts) {
  const Caller who = caller("all_to_all");
  check_tensors(who, {input, output});
  const at::Tensor from = dense(input);
  const at::Tensor to = dense_output(output);
  const Call call{"treadle:all_to_all", c10d::OpType::ALLTOALL_BASE, opts.timeout, opts.asyncOp};
  Operands operands{.tensors = {from, to}, .outputs = {output}, .copy_out = [to, out = output] {
                      copy_back(out, to);
                    }};
  if (output_splits.empty() && input_splits.empty()) {
    if (input.numel() != output.numel()) {
      refuse(who, "invalid tensor size: input and output differ, ", input.sizes(), " and ",
             output.sizes());
    }
    if (input.dim() == 0 || input.size(0) % size_ != 0 || output.size(0) % size_ != 0) {
      refuse(who, "invalid tensor size: the first dimension of ", input.sizes(), " and ",
             output.sizes(), " does not divide by ", size_, " ranks");
    }
    return run(call, {input}, std::move(operands),
               [&](Communicator& group, const CallOptions& options, Operations& operations) {
                 operations.push_back(group.all_to_all(bytes_of(from), writable_bytes_of(to),
                                                       moved_dtype(from), options));
               });
  }
  const auto splits_of = [&](const std::vector<int64_t>& given, const at::Tensor& tensor) {
    return given.empty() ? equal_splits(tensor, size_) : given;
  };
  const Tensors outputs = cut(who, to, splits_of(output_splits, to), "output");
  const Tensors inputs = cut(who, from, splits_of(input_splits, from), "input");
  check_like(who, {outputs[static_cast<std::size_t>(rank_)]},
             inputs[static_cast<std::size_t>(rank_)], "this rank's own output");
  return all_to_all_pairs(call, outputs, inputs, {input}, std::move(operands));
}

TreadleBackend::WorkPtr TreadleBackend::alltoall(Tensors& outputs, Tensors& inputs,
                                                 const c10d::AllToAllOptions& opts) {
  const Caller who = caller("all_to_all");
  check_per_rank(who, {outputs}, "output");
  check_per_rank(who, {inputs}, "input");
  check_tensors(who, inputs);
  check_tensors(who, outputs);
  check_like(who, {outputs[static_cast<std::size_t>(rank_)]},
             inputs[static_cast<std::size_t>(rank_)], "this rank's own output");
  Tensors from;
  Tensors to;
  for (const auto& input : inputs) from.push_back(dense(input));
  for (const auto& output : outputs) to.push_back(dense_output(output));
  Operands operands{.tensors = from, .outputs = outputs, .copy_out = [outputs, to] {
                      for (std::size_t i = 0; i < to.size(); ++i) copy_back(outputs[i], to[i]);
                    }};
  const Call call{"treadle:all_to_all", c10d::OpType::ALLTOALL, opts.timeout, opts.asyncOp};
  return all_to_all_pairs(call, to, from, inputs, std::move(operands));
}

// ---- barriers ----

TreadleBackend::WorkPtr TreadleBackend::barrier(const c10d::BarrierOptions& opts) {
  const Call call{"treadle:barrier", c10d::OpType::BARRIER, opts.timeout, opts.asyncOp};
  return run(call, {}, {},
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               operations.push_back(group.barrier(options));
             });
}

// Rank 0 hears from everybody and then answers everybody; unlike in a barrier, it knows who has not
// come.
void TreadleBackend::monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) {
  const milliseconds timeout =
      opts.timeout == c10d::kUnsetTimeout ? communicator().timeout() : opts.timeout;
  try {
    if (rank_ == 0) {
      lead_monitored_barrier(timeout, wait_all_ranks);
    } else {
      follow_monitored_barrier(timeout);
    }
  } catch (const Error& error) {
    std::rethrow_exception(to_torch(error));
  }
}

void TreadleBackend::lead_monitored_barrier(milliseconds timeout, bool wait_all_ranks) {
  if (timeout <= milliseconds(0)) {
    throw Error(ErrorCode::kTimeout, "Rank 0 timed out in monitoredBarrier after {} ms",
                timeout.count());
  }
  Communicator& group = communicator();
  const Deadline by = deadline_after(timeout);
  CallOptions options;
  options.timeout = timeout + kGrace;
  // The messages may outlive this call if it fails, so their memory is theirs.
  const auto tokens = std::make_shared<std::vector<std::byte>>(size_);
  Operations arrivals(1);  // rank r's is arrivals[r]
  for (int peer = 1; peer < size_; ++peer) {
    arrivals.push_back(group.recv(Bytes(*tokens).subspan(static_cast<std::size_t>(peer), 1),
                                  DType::kU8, peer, kMonitoredBarrierTag, options));
    arrivals.back().on_done([tokens](const Error*) {});
  }
  std::vector<int> missing;
  for (int peer = 1; peer < size_; ++peer) {
    const auto& arrival = arrivals[static_cast<std::size_t>(peer)];
    const auto left = std::chrono::ceil<milliseconds>(by - Clock::now());
    try {
      arrival.wait_for(std::max(left, milliseconds(0)));
    } catch (const Error& error) {
      if (arrival.done()) throw;  // a failure, not somebody late
      missing.push_back(peer);
      if (!wait_all_ranks) break;
    }
  }
  if (!missing.empty()) {
    const Error late(ErrorCode::kTimeout, "{} failed to pass monitoredBarrier in {} ms",
                     missing.size() == 1 ? fmt::format("Rank {}", missing.front())
                                         : fmt::format("Ranks {}", fmt::join(missing, ", ")),
                     timeout.count());
    group.abort(late.what());
    throw late;
  }
  Operations answers;
  for (int peer = 1; peer < size_; ++peer) {
    answers.push_back(
        group.send(ConstBytes(&kToken, 1), DType::kU8, peer, kMonitoredBarrierTag, options));
  }
  for (const auto& answer : answers) answer.wait();
}

void TreadleBackend::follow_monitored_barrier(milliseconds timeout) {
  Communicator& group = communicator();
  CallOptions options;
  options.timeout = timeout + kGrace;
  try {
    const auto token = std::make_shared<std::byte>();
    const auto hello =
        group.send(ConstBytes(&kToken, 1), DType::kU8, 0, kMonitoredBarrierTag, options);
    const auto answer =
        group.recv(Bytes(token.get(), 1), DType::kU8, 0, kMonitoredBarrierTag, options);
    answer.on_done([token](const Error*) {});
    hello.wait();
    answer.wait();
  } catch (Error& error) {
    throw Error(error.code(),
                "Rank {} successfully reached monitoredBarrier, but received errors while waiting "
                "for send/recv from rank 0: {}",
                rank_, error.what());
  }
}

}  // namespace treadle
