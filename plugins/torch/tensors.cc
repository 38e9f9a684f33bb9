#include "plugins/torch/tensors.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <functional>
#include <optional>

namespace treadle {
namespace {

std::optional<DType> dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return DType::kF64;
    case at::kFloat:
      return DType::kF32;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kLong:
      return DType::kI64;
    case at::kInt:
      return DType::kI32;
    case at::kShort:
      return DType::kI16;
    case at::kChar:
      return DType::kI8;
    case at::kByte:
      return DType::kU8;
    case at::kBool:
      return DType::kBool;
    case at::kComplexFloat:
      return DType::kC64;
    case at::kComplexDouble:
      return DType::kC128;
    default:
      return std::nullopt;
  }
}

ReduceOp operator_of(const Caller& caller, c10d::ReduceOp::RedOpType op) {
  switch (op) {
    case c10d::ReduceOp::SUM:
      return ReduceOp::kSum;
    case c10d::ReduceOp::AVG:
      return ReduceOp::kAvg;
    case c10d::ReduceOp::PRODUCT:
      return ReduceOp::kProd;
    case c10d::ReduceOp::MIN:
      return ReduceOp::kMin;
    case c10d::ReduceOp::MAX:
      return ReduceOp::kMax;
    case c10d::ReduceOp::BAND:
      return ReduceOp::kBand;
    case c10d::ReduceOp::BOR:
      return ReduceOp::kBor;
    case c10d::ReduceOp::BXOR:
      return ReduceOp::kBxor;
    case c10d::ReduceOp::PREMUL_SUM:
      return ReduceOp::kPremulSum;
    default:
      refuse(caller, "unsupported reduction operation: number ", static_cast<int>(op));
  }
}

// Lets a result be copied to a parameter, an inference tensor or any thread's tensor: what arrives
// from other ranks is not part of the autograd graph.
struct OutsideAutograd {
  c10::AutoGradMode no_grad{false};
  at::AutoDispatchBelowADInplaceOrView below;
};

}  // namespace

DType reduced_dtype(const Caller& caller, const at::Tensor& tensor, const Reduction& reduction) {
  const auto dtype = dtype_of(tensor.scalar_type());
  if (!dtype) {
    refuse(caller, "invalid tensor type: ", tensor.scalar_type(),
           " can be sent and gathered but not reduced");
  }
  if (!supports(reduction.op, *dtype)) {
    refuse(caller, "unsupported reduction operation: ", name_of(reduction.op), " of ",
           tensor.scalar_type());
  }
  return *dtype;
}

Reduction reduction_of(const Caller& caller, const c10d::ReduceOp& op) {
  Reduction reduction{.op = operator_of(caller, op.op_)};
  if (reduction.op != ReduceOp::kPremulSum) return reduction;
  const auto* factor = dynamic_cast<c10d::NCCLPreMulSumSupplement*>(op.supplement_.get());
  if (factor == nullptr)
    refuse(caller, "unsupported reduction operation: PREMUL_SUM lacks a factor");
  reduction.premul_factor = factor->tensor_factor.defined()
                                ? factor->tensor_factor.item().toDouble()
                                : factor->double_factor;
  return reduction;
}

DType moved_dtype(const at::Tensor& tensor) {
  return dtype_of(tensor.scalar_type()).value_or(DType::kU8);
}

ConstBytes bytes_of(const at::Tensor& dense) {
  return {static_cast<const std::byte*>(dense.const_data_ptr()), dense.nbytes()};
}

Bytes writable_bytes_of(const at::Tensor& dense) {
  return {static_cast<std::byte*>(dense.mutable_data_ptr()), dense.nbytes()};
}

at::Tensor dense(const at::Tensor& tensor) {
  if (tensor.is_contiguous() && !tensor.is_conj() && !tensor.is_neg()) return tensor;
  const OutsideAutograd guard;
  return tensor.resolve_conj().resolve_neg().contiguous();
}

at::Tensor dense_output(const at::Tensor& tensor) {
  if (tensor.is_contiguous() && !tensor.is_conj() && !tensor.is_neg()) return tensor;
  return at::empty(tensor.sizes(), tensor.options().memory_format(at::MemoryFormat::Contiguous));
}

void copy_back(const at::Tensor& to, const at::Tensor& from) {
  if (to.is_same(from)) return;
  const OutsideAutograd guard;
  to.copy_(from.view(to.sizes()));
}

bool share_memory(const at::Tensor& one, const at::Tensor& other) {
  const ConstBytes a = bytes_of(one);
  const ConstBytes b = bytes_of(other);
  const std::less<> before;
  return !a.empty() && !b.empty() && before(a.data(), b.data() + b.size()) &&
         before(b.data(), a.data() + a.size());
}

bool equally_large(const Tensors& list) {
  return std::all_of(list.begin(), list.end(),
                     [&](const at::Tensor& t) { return t.numel() == list.front().numel(); });
}

at::Tensor flat_view(const Tensors& list) {
  const auto& first = list.front();
  const auto* base = static_cast<const std::byte*>(first.const_data_ptr());
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_contiguous() || list[i].is_conj() || list[i].is_neg()) return {};
    if (list[i].const_data_ptr() != base + i * first.nbytes()) return {};
    // Neighbours by chance are not enough: the view below must not reach beyond its storage.
    if (!list[i].storage().is_alias_of(first.storage())) return {};
  }
  const auto tensors = static_cast<std::int64_t>(list.size());
  const OutsideAutograd guard;
  return first.as_strided({tensors, first.numel()}, {first.numel(), 1});
}

at::Tensor flat_scratch(const Tensors& list) {
  return at::empty({static_cast<std::int64_t>(list.size()), list.front().numel()},
                   list.front().options().memory_format(at::MemoryFormat::Contiguous));
}

void check_tensors(const Caller& caller, const Tensors& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& tensor = tensors[i];
    if (!tensor.defined()) refuse(caller, "invalid tensor type at index ", i, ": no tensor");
    if (!tensor.device().is_cpu()) {
      refuse(caller, "unsupported device type ", tensor.device(), " at index ", i,
             ": this version of treadle communicates CPU tensors only");
    }
    if (tensor.layout() != at::kStrided) {
      refuse(caller, "unsupported layout ", tensor.layout(), " at index ", i,
             ": only dense (strided) tensors are supported; call .to_dense() first");
    }
    if (tensor.scalar_type() != tensors.front().scalar_type()) {
      refuse(caller, "invalid tensor type at index ", i, ": tensors must all have the same type, ",
             tensor.scalar_type(), " is beside ", tensors.front().scalar_type());
    }
  }
}

const at::Tensor& check_single(const Caller& caller, const Tensors& list, const char* what) {
  if (list.size() != 1) {
    refuse(caller, "requires a single-element ", what, " list, got ", list.size(), " tensors");
  }
  return list.front();
}

const Tensors& check_per_rank(const Caller& caller, const std::vector<Tensors>& lists,
                              const char* what) {
  if (lists.size() != 1) {
    refuse(caller, "requires a single-element ", what, " list, got ", lists.size());
  }
  if (lists.front().size() != static_cast<std::size_t>(caller.ranks)) {
    refuse(caller, "invalid ", what, " tensor list: ", what,
           " lists should be equal to world size ", caller.ranks, ", got ", lists.front().size());
  }
  return lists.front();
}

void check_root(const Caller& caller, std::int64_t root_rank, std::int64_t root_tensor) {
  if (root_rank < 0 || root_rank >= caller.ranks) {
    refuse(caller, "invalid root rank: ", root_rank);
  }
  if (root_tensor != 0) refuse(caller, "invalid root tensor: ", root_tensor);
}

void check_like(const Caller& caller, const Tensors& list, const at::Tensor& like,
                const char* what) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].scalar_type() != like.scalar_type()) {
      refuse(caller, "invalid tensor type at index ", i, ": ", what, " is ", list[i].scalar_type(),
             ", expected ", like.scalar_type());
    }
    if (list[i].numel() != like.numel()) {
      refuse(caller, "invalid tensor size at index ", i, ": ", what, " has ", list[i].sizes(),
             ", expected as many elements as ", like.sizes());
    }
  }
}

}  // namespace treadle
