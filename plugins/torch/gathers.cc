// broadcast, all_gather, gather and scatter: what moves values without changing them.
#include <utility>

#include "plugins/torch/backend.h"

namespace treadle {
namespace {

void check_pairs(const Caller& who, const Tensors& large, const Tensors& small, const char* what) {
  if (large.size() != small.size()) {
    refuse(who, "requires input/output tensor lists to have the same length, got ", small.size(),
           " and ", large.size());
  }
  for (std::size_t i = 0; i < large.size(); ++i) {
    if (large[i].scalar_type() != small[i].scalar_type()) {
      refuse(who, "invalid tensor type at index ", i, ": input is ", small[i].scalar_type(),
             ", output is ", large[i].scalar_type());
    }
    if (large[i].numel() != small[i].numel() * who.ranks) {
      refuse(who, "invalid tensor size at index ", i, ": ", what, " must be ", who.ranks,
             " times the input, got ", large[i].sizes(), " and ", small[i].sizes());
    }
  }
}

// Copies row i of `flat` to list[i].
void unpack(const at::Tensor& flat, const Tensors& list) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    copy_back(list[i], flat.select(0, static_cast<std::int64_t>(i)));
  }
}

void pack(const Tensors& list, const at::Tensor& flat) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    copy_back(flat.select(0, static_cast<std::int64_t>(i)), dense(list[i]));
  }
}

}  // namespace

TreadleBackend::WorkPtr TreadleBackend::broadcast(Tensors& tensors,
                                                  const c10d::BroadcastOptions& opts) {
  const Caller who = caller("broadcast");
  const at::Tensor& tensor = check_single(who, tensors, "tensor");
  check_tensors(who, tensors);
  check_root(who, opts.rootRank, opts.rootTensor);
  const int root = static_cast<int>(opts.rootRank);
  const at::Tensor memory = root == rank_ ? dense(tensor) : dense_output(tensor);
  const Call call{"treadle:broadcast", c10d::OpType::BROADCAST, opts.timeout, opts.asyncOp};
  Operands operands{.tensors = {tensor, memory}, .outputs = {tensor}, .copy_out = {}};
  if (root != rank_) operands.copy_out = [tensor, memory] { copy_back(tensor, memory); };
  return run(call, tensors, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               operations.push_back(
                   group.broadcast(writable_bytes_of(memory), moved_dtype(memory), root, options));
             });
}

// ---- all_gather ----

TreadleBackend::WorkPtr TreadleBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                        const c10d::AllgatherOptions& opts) {
  Tensors outputs{output};
  Tensors inputs{input};
  return allgather_into_tensor_coalesced(outputs, inputs, opts);
}

TreadleBackend::WorkPtr TreadleBackend::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions& opts) {
  const Caller who = caller("all_gather");
  if (inputs.empty()) refuse(who, "requires non-empty input tensor list");
  check_tensors(who, inputs);
  check_tensors(who, outputs);
  check_pairs(who, outputs, inputs, "output");
  Tensors from;
  Tensors to;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    from.push_back(dense(inputs[i]));
    to.push_back(dense_output(outputs[i]));
  }
  const auto type =
      inputs.size() == 1 ? c10d::OpType::_ALLGATHER_BASE : c10d::OpType::ALLGATHER_COALESCED;
  const Call call{"treadle:all_gather", type, opts.timeout, opts.asyncOp};
  Operands operands{.tensors = from, .outputs = outputs, .copy_out = [outputs, to] {
                      for (std::size_t i = 0; i < to.size(); ++i) copy_back(outputs[i], to[i]);
                    }};
  return run(call, inputs, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               for (std::size_t i = 0; i < from.size(); ++i) {
                 operations.push_back(group.all_gather(bytes_of(from[i]), writable_bytes_of(to[i]),
                                                       moved_dtype(from[i]), options));
               }
             });
}

TreadleBackend::WorkPtr TreadleBackend::allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                                  const c10d::AllgatherOptions& opts) {
  const Caller who = caller("all_gather");
  const at::Tensor& input = check_single(who, inputs, "input tensor");
  const Tensors& list = check_per_rank(who, outputs, "output");
  check_tensors(who, inputs);
  check_tensors(who, list);
  check_like(who, {list[static_cast<std::size_t>(rank_)]}, input, "this rank's output");
  const Call call{"treadle:all_gather", c10d::OpType::ALLGATHER, opts.timeout, opts.asyncOp};
  // All ranks see the same sizes, so all choose the same way.
  if (!equally_large(list)) return allgather_unequal(call, list, input);

  const at::Tensor from = dense(input);
  at::Tensor to = flat_view(list);
  Operands operands{.tensors = {from}, .outputs = list, .copy_out = {}};
  if (!to.defined()) {
    to = flat_scratch(list);
    operands.copy_out = [to, list] { unpack(to, list); };
  }
  operands.tensors.push_back(to);
  return run(call, inputs, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               operations.push_back(group.all_gather(bytes_of(from), writable_bytes_of(to),
                                                     moved_dtype(from), options));
             });
}

// One broadcast per rank: pieces of different sizes have no common plan.
TreadleBackend::WorkPtr TreadleBackend::allgather_unequal(const Call& call, const Tensors& outputs,
                                                          const at::Tensor& input) {
  Tensors to;
  for (const auto& output : outputs) to.push_back(dense_output(output));
  copy_back(to[static_cast<std::size_t>(rank_)], dense(input));
  Operands operands{.tensors = to, .outputs = outputs, .copy_out = [to, outputs] {
                      for (std::size_t i = 0; i < to.size(); ++i) copy_back(outputs[i], to[i]);
                    }};
  return run(call, {input}, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               for (int root = 0; root < size_; ++root) {
                 const auto& part = to[static_cast<std::size_t>(root)];
                 operations.push_back(
                     group.broadcast(writable_bytes_of(part), moved_dtype(part), root, options));
               }
             });
}

TreadleBackend::WorkPtr TreadleBackend::allgather_coalesced(std::vector<Tensors>& outputs,
                                                            Tensors& inputs,
                                                            const c10d::AllgatherOptions& opts) {
  const Caller who = caller("all_gather_coalesced");
  if (inputs.empty()) refuse(who, "requires non-empty input tensor list");
  if (outputs.size() != static_cast<std::size_t>(size_)) {
    refuse(who, "invalid output tensor list: output lists should be equal to world size ", size_);
  }
  // c10d orders these lists by rank, then by tensor; each tensor is gathered like any other.
  std::vector<c10::intrusive_ptr<TreadleWork>> members;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<Tensors> of_this(1);
    for (const auto& of_rank : outputs) of_this.front().push_back(of_rank.at(i));
    Tensors input{inputs[i]};
    auto work = allgather(of_this, input, {.timeout = opts.timeout, .asyncOp = true});
    members.push_back(c10::static_intrusive_pointer_cast<TreadleWork>(work));
  }
  return c10::make_intrusive<CoalescedWork>(rank_, std::move(members));
}

// ---- gather and scatter ----

TreadleBackend::WorkPtr TreadleBackend::gather_to(const Call& call, const at::Tensor& input,
                                                  int root, const at::Tensor& flat,
                                                  Operands operands) {
  const at::Tensor from = dense(input);
  operands.tensors.push_back(from);
  operands.tensors.push_back(flat);
  return run(
      call, {input}, std::move(operands),
      [&](Communicator& group, const CallOptions& options, Operations& operations) {
        const Bytes out = flat.defined() ? writable_bytes_of(flat) : Bytes{};
        operations.push_back(group.gather(bytes_of(from), out, moved_dtype(from), root, options));
      });
}

TreadleBackend::WorkPtr TreadleBackend::gather(std::vector<Tensors>& outputs, Tensors& inputs,
                                               const c10d::GatherOptions& opts) {
  const Caller who = caller("gather");
  const at::Tensor& input = check_single(who, inputs, "input tensor");
  check_tensors(who, inputs);
  check_root(who, opts.rootRank, 0);
  const int root = static_cast<int>(opts.rootRank);
  const Call call{"treadle:gather", c10d::OpType::GATHER, opts.timeout, opts.asyncOp};
  if (root != rank_) {
    if (!outputs.empty() && !outputs.front().empty()) {
      refuse(who, "requires empty output on non-root, got ", outputs.front().size(), " tensors");
    }
    return gather_to(call, input, root, {}, {});
  }
  const Tensors& list = check_per_rank(who, outputs, "output");
  check_tensors(who, list);
  check_like(who, list, input, "output");
  at::Tensor flat = flat_view(list);
  Operands operands{.tensors = {}, .outputs = list, .copy_out = {}};
  if (!flat.defined()) {
    flat = flat_scratch(list);
    operands.copy_out = [flat, list] { unpack(flat, list); };
  }
  return gather_to(call, input, root, flat, std::move(operands));
}

#if TORCH_VERSION_MINOR >= 14
TreadleBackend::WorkPtr TreadleBackend::gather_single(at::Tensor& output, at::Tensor& input,
                                                      const c10d::GatherOptions& opts) {
  const Caller who = caller("gather");
  check_tensors(who, {input});
  check_root(who, opts.rootRank, 0);
  const int root = static_cast<int>(opts.rootRank);
  const Call call{"treadle:gather", c10d::OpType::GATHER, opts.timeout, opts.asyncOp};
  if (root != rank_) return gather_to(call, input, root, {}, {});
  check_tensors(who, {output});
  check_pairs(who, {output}, {input}, "output");
  const at::Tensor to = dense_output(output);
  Operands operands{.tensors = {output}, .outputs = {output}, .copy_out = [to, out = output] {
                      copy_back(out, to);
                    }};
  return gather_to(call, input, root, to, std::move(operands));
}
#endif

TreadleBackend::WorkPtr TreadleBackend::scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                                const c10d::ScatterOptions& opts) {
  const Caller who = caller("scatter");
  const at::Tensor& output = check_single(who, outputs, "output tensor");
  check_tensors(who, outputs);
  check_root(who, opts.rootRank, 0);
  const int root = static_cast<int>(opts.rootRank);
  at::Tensor from;
  if (root == rank_) {
    const Tensors& list = check_per_rank(who, inputs, "input");
    check_tensors(who, list);
    check_like(who, list, output, "input");
    from = flat_view(list);
    if (!from.defined()) {
      from = flat_scratch(list);
      pack(list, from);
    }
  } else if (!inputs.empty() && !inputs.front().empty()) {
    refuse(who, "requires empty input on non-root, got ", inputs.front().size(), " tensors");
  }
  const at::Tensor to = dense_output(output);
  const Call call{"treadle:scatter", c10d::OpType::SCATTER, opts.timeout, opts.asyncOp};
  const Tensors shown = root == rank_ ? inputs.front() : Tensors{};
  return run(
      call, shown,
      {.tensors = {from}, .outputs = {output}, .copy_out = [output, to] { copy_back(output, to); }},
      [&](Communicator& group, const CallOptions& options, Operations& operations) {
        const ConstBytes in = from.defined() ? bytes_of(from) : ConstBytes{};
        operations.push_back(
            group.scatter(in, writable_bytes_of(to), moved_dtype(to), root, options));
      });
}

}  // namespace treadle
