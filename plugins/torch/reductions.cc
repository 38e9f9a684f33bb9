// all_reduce, reduce and reduce_scatter: what combines the ranks' values.
#include <utility>

#include "plugins/torch/backend.h"

namespace treadle {
namespace {

CallOptions with_factor(CallOptions options, const Reduction& reduction) {
  options.premul_factor = reduction.premul_factor;
  return options;
}

}  // namespace

TreadleBackend::WorkPtr TreadleBackend::allreduce(Tensors& tensors,
                                                  const c10d::AllreduceOptions& opts) {
  const Caller who = caller("all_reduce");
  const at::Tensor& tensor = check_single(who, tensors, "tensor");
  check_tensors(who, tensors);
  const Reduction reduction = reduction_of(who, opts.reduceOp);
  const DType dtype = reduced_dtype(who, tensor, reduction);
  const at::Tensor memory = dense(tensor);
  const Call call{"treadle:all_reduce", c10d::OpType::ALLREDUCE, opts.timeout, opts.asyncOp};
  return run(
      call, tensors,
      {.tensors = {tensor, memory},
       .outputs = {tensor},
       .copy_out = memory.is_same(tensor) ? std::function<void()>{}
                                          : [tensor, memory] { copy_back(tensor, memory); }},
      [&](Communicator& group, const CallOptions& options, Operations& operations) {
        operations.push_back(group.all_reduce(bytes_of(memory), writable_bytes_of(memory), dtype,
                                              reduction.op, with_factor(options, reduction)));
      });
}

TreadleBackend::WorkPtr TreadleBackend::allreduce_sparse(Tensors& tensors,
                                                         const c10d::AllreduceOptions&) {
  const Caller who = caller("all_reduce");
  check_tensors(who, tensors);
  refuse(who, "unsupported layout: sparse all_reduce was called with dense tensors");
}

TreadleBackend::WorkPtr TreadleBackend::allreduce_coalesced(
    Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) {
  const Caller who = caller("all_reduce_coalesced");
  if (tensors.empty()) refuse(who, "requires non-empty tensor list");
  check_tensors(who, tensors);
  const Reduction reduction = reduction_of(who, opts.reduceOp);
  const DType dtype = reduced_dtype(who, tensors.front(), reduction);
  Tensors memory;
  for (const auto& tensor : tensors) memory.push_back(dense(tensor));
  const Call call{"treadle:all_reduce", c10d::OpType::ALLREDUCE_COALESCED, opts.timeout,
                  opts.asyncOp};
  Operands operands{.tensors = memory, .outputs = tensors, .copy_out = [tensors, memory] {
                      for (std::size_t i = 0; i < tensors.size(); ++i) {
                        copy_back(tensors[i], memory[i]);
                      }
                    }};
  return run(call, tensors, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               const CallOptions factored = with_factor(options, reduction);
               for (const auto& part : memory) {
                 operations.push_back(group.all_reduce(bytes_of(part), writable_bytes_of(part),
                                                       dtype, reduction.op, factored));
               }
             });
}

TreadleBackend::WorkPtr TreadleBackend::reduce(Tensors& tensors, const c10d::ReduceOptions& opts) {
  const Caller who = caller("reduce");
  const at::Tensor& tensor = check_single(who, tensors, "tensor");
  check_tensors(who, tensors);
  check_root(who, opts.rootRank, opts.rootTensor);
  const Reduction reduction = reduction_of(who, opts.reduceOp);
  const DType dtype = reduced_dtype(who, tensor, reduction);
  const int root = static_cast<int>(opts.rootRank);
  const bool is_root = root == rank_;
  const at::Tensor memory = dense(tensor);
  const Call call{"treadle:reduce", c10d::OpType::REDUCE, opts.timeout, opts.asyncOp};
  Operands operands{.tensors = {tensor, memory}, .outputs = {tensor}, .copy_out = {}};
  if (is_root) operands.copy_out = [tensor, memory] { copy_back(tensor, memory); };
  return run(call, tensors, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               const Bytes out = is_root ? writable_bytes_of(memory) : Bytes{};
               operations.push_back(group.reduce(bytes_of(memory), out, dtype, reduction.op, root,
                                                 with_factor(options, reduction)));
             });
}

TreadleBackend::WorkPtr TreadleBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& opts) {
  Tensors outputs{output};
  Tensors inputs{input};
  return reduce_scatter_tensor_coalesced(outputs, inputs, opts);
}

TreadleBackend::WorkPtr TreadleBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::ReduceScatterOptions& opts) {
  const Caller who = caller("reduce_scatter");
  if (inputs.empty()) refuse(who, "requires non-empty input tensor list");
  if (inputs.size() != outputs.size()) {
    refuse(who, "requires input/output tensor lists to have the same length, got ", inputs.size(),
           " and ", outputs.size());
  }
  check_tensors(who, inputs);
  check_tensors(who, outputs);
  const Reduction reduction = reduction_of(who, opts.reduceOp);
  const DType dtype = reduced_dtype(who, inputs.front(), reduction);
  Tensors from;
  Tensors to;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].scalar_type() != outputs[i].scalar_type()) {
      refuse(who, "invalid tensor type at index ", i, ": input is ", inputs[i].scalar_type(),
             ", output is ", outputs[i].scalar_type());
    }
    if (inputs[i].numel() != outputs[i].numel() * size_) {
      refuse(who, "invalid tensor size at index ", i, ": input must be ", size_,
             " times the output, got ", inputs[i].sizes(), " and ", outputs[i].sizes());
    }
    from.push_back(dense(inputs[i]));
    to.push_back(dense_output(outputs[i]));
  }
  const auto type = inputs.size() == 1 ? c10d::OpType::_REDUCE_SCATTER_BASE
                                       : c10d::OpType::REDUCE_SCATTER_TENSOR_COALESCED;
  const Call call{"treadle:reduce_scatter", type, opts.timeout, opts.asyncOp};
  Operands operands{.tensors = from, .outputs = outputs, .copy_out = [outputs, to] {
                      for (std::size_t i = 0; i < to.size(); ++i) copy_back(outputs[i], to[i]);
                    }};
  return run(call, inputs, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               const CallOptions factored = with_factor(options, reduction);
               for (std::size_t i = 0; i < from.size(); ++i) {
                 operations.push_back(group.reduce_scatter(
                     bytes_of(from[i]), writable_bytes_of(to[i]), dtype, reduction.op, factored));
               }
             });
}

TreadleBackend::WorkPtr TreadleBackend::reduce_scatter(Tensors& outputs,
                                                       std::vector<Tensors>& inputs,
                                                       const c10d::ReduceScatterOptions& opts) {
  const Caller who = caller("reduce_scatter");
  const at::Tensor& output = check_single(who, outputs, "output tensor");
  const Tensors& list = check_per_rank(who, inputs, "input");
  check_tensors(who, list);
  check_tensors(who, outputs);
  check_like(who, {list[static_cast<std::size_t>(rank_)]}, output, "this rank's input");
  const Reduction reduction = reduction_of(who, opts.reduceOp);
  const DType dtype = reduced_dtype(who, output, reduction);
  const Call call{"treadle:reduce_scatter", c10d::OpType::REDUCE_SCATTER, opts.timeout,
                  opts.asyncOp};
  // All ranks see the same sizes, so all choose the same way.
  if (!equally_large(list)) return reduce_scatter_unequal(call, output, list, reduction, dtype);

  at::Tensor from = flat_view(list);
  if (!from.defined()) {
    from = flat_scratch(list);
    for (std::size_t i = 0; i < list.size(); ++i) {
      copy_back(from.select(0, static_cast<std::int64_t>(i)), list[i].reshape(-1));
    }
  }
  const at::Tensor to = dense_output(output);
  return run(
      call, list,
      {.tensors = {from}, .outputs = {output}, .copy_out = [output, to] { copy_back(output, to); }},
      [&](Communicator& group, const CallOptions& options, Operations& operations) {
        operations.push_back(group.reduce_scatter(bytes_of(from), writable_bytes_of(to), dtype,
                                                  reduction.op, with_factor(options, reduction)));
      });
}

// One reduce per rank: pieces of different sizes have no common plan.
TreadleBackend::WorkPtr TreadleBackend::reduce_scatter_unequal(const Call& call,
                                                               const at::Tensor& output,
                                                               const Tensors& inputs,
                                                               const Reduction& reduction,
                                                               DType dtype) {
  Tensors from;
  for (const auto& input : inputs) from.push_back(dense(input));
  const at::Tensor to = dense_output(output);
  Operands operands{
      .tensors = from, .outputs = {output}, .copy_out = [output, to] { copy_back(output, to); }};
  return run(call, inputs, std::move(operands),
             [&](Communicator& group, const CallOptions& options, Operations& operations) {
               const CallOptions factored = with_factor(options, reduction);
               for (int root = 0; root < size_; ++root) {
                 const auto& part = from[static_cast<std::size_t>(root)];
                 const Bytes out = root == rank_ ? writable_bytes_of(to) : Bytes{};
                 operations.push_back(
                     group.reduce(bytes_of(part), out, dtype, reduction.op, root, factored));
               }
             });
}

}  // namespace treadle
