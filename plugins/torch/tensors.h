// From torch's tensors and options to Treadle's bytes, dtypes and operators; and the checks of
// arguments that a rank can make for itself.
//
// A refusal is a c10::Error (RuntimeError in Python). Its text contains the phrase that users of
// PyTorch's own CPU backend know, then says what was given. Pure functions; any thread.
#pragma once
#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/Types.hpp>
#include <vector>

#include "core/bytes.h"
#include "core/dtype.h"

namespace treadle {

using Tensors = std::vector<at::Tensor>;

// Who refuses: "all_reduce", rank 1 of 4.
struct Caller {
  const char* name;
  int rank;
  int ranks;
};

template <typename... Parts>
[[noreturn]] void refuse(const Caller& caller, const Parts&... parts) {
  C10_THROW_ERROR(Error, c10::str("treadle ", caller.name, " on rank ", caller.rank, " of ",
                                  caller.ranks, ": ", parts...));
}

struct Reduction {
  ReduceOp op = ReduceOp::kSum;
  double premul_factor = 1.0;
};

// The type in which `tensor` can be reduced by `op`; refuses what has no meaning or no kernel.
DType reduced_dtype(const Caller& caller, const at::Tensor& tensor, const Reduction& reduction);
Reduction reduction_of(const Caller& caller, const c10d::ReduceOp& op);
// The type in which it is only moved: types that Treadle cannot compute with travel as bytes.
DType moved_dtype(const at::Tensor& tensor);

ConstBytes bytes_of(const at::Tensor& dense);
Bytes writable_bytes_of(const at::Tensor& dense);

// The elements of `tensor` in memory order without gaps: the tensor itself or a copy of it.
at::Tensor dense(const at::Tensor& tensor);
// The same for an output: the tensor itself, or memory to be copied to it later.
at::Tensor dense_output(const at::Tensor& tensor);
// Copies `from` to `to` unless they are the same tensor. Autograd does not see it.
void copy_back(const at::Tensor& to, const at::Tensor& from);

// Whether two dense tensors have bytes in common.
bool share_memory(const at::Tensor& one, const at::Tensor& other);

// One dense tensor over `list`, [tensors, elements]: where they lie one behind the other in memory
// it is that memory, else undefined. All must be equally large.
at::Tensor flat_view(const Tensors& list);
// New memory of that shape.
at::Tensor flat_scratch(const Tensors& list);
bool equally_large(const Tensors& list);

// CPU, strided, and all of the same dtype.
void check_tensors(const Caller& caller, const Tensors& tensors);
// The same for a list, which must not be empty.
const at::Tensor& check_single(const Caller& caller, const Tensors& list, const char* what);
const Tensors& check_per_rank(const Caller& caller, const std::vector<Tensors>& lists,
                              const char* what);
void check_root(const Caller& caller, std::int64_t root_rank, std::int64_t root_tensor);
// Every tensor of `list` must have as many elements, and the same type, as `like`.
void check_like(const Caller& caller, const Tensors& list, const at::Tensor& like,
                const char* what);

}  // namespace treadle
