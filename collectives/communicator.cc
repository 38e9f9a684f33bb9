#include "collectives/communicator.h"

#include <stdexcept>

#include "collectives/communicator_state.h"

namespace treadle {
namespace {

// The checks of arguments every rank makes for itself, before anything is sent.
std::uint64_t elems_of(ConstBytes bytes, DType dtype, std::string_view what) {
  if (bytes.size() % size_of(dtype) != 0) {
    throw std::invalid_argument(fmt::format("{}: {} bytes is no whole number of {} elements", what,
                                            bytes.size(), name_of(dtype)));
  }
  return bytes.size() / size_of(dtype);
}

void expect_bytes(std::size_t got, std::size_t expected, std::string_view what) {
  if (got == expected) return;
  throw std::invalid_argument(fmt::format("{}: {} bytes, expected {}", what, got, expected));
}

void expect_rank(int rank, int size, std::string_view what) {
  if (rank >= 0 && rank < size) return;
  throw std::invalid_argument(fmt::format("invalid {} {}: expected 0 to {}", what, rank, size - 1));
}

void expect_supported(ReduceOp op, DType dtype) {
  if (supports(op, dtype)) return;
  throw std::invalid_argument(
      fmt::format("unsupported reduction operation: {} of {}", name_of(op), name_of(dtype)));
}

std::size_t times(std::size_t bytes, int ranks) { return bytes * static_cast<std::size_t>(ranks); }

}  // namespace

// ---- Work ----

bool Work::done() const { return operation_->done(); }

void Work::wait() const {
  if (!operation_->done()) {
    const ContextState& context = *operation_->context;
    context.check_process();
    // The loop ends every operation by its deadline. Beyond that and some grace the loop itself is
    // stuck.
    const auto grace = 2 * context.config.heartbeat;
    const auto by = operation_->deadline > Deadline::max() - grace ? Deadline::max()
                                                                   : operation_->deadline + grace;
    if (!operation_->context->engine.wait_until([this] { return operation_->done(); }, by)) {
      throw Error(ErrorCode::kBug, "{} did not end by its deadline", operation_->text());
    }
  }
  if (operation_->error()) throw *operation_->error();
}

void Work::wait_for(milliseconds timeout) const {
  if (!operation_->done()) {
    operation_->context->check_process();
    if (!operation_->context->engine.wait_until([this] { return operation_->done(); },
                                                deadline_after(timeout))) {
      throw Error(
          ErrorCode::kTimeout,
          "{} Timed out: not complete after waiting {} ms; it goes on until its deadline of {} ms",
          operation_->text(), timeout.count(), operation_->timeout.count());
    }
  }
  if (operation_->error()) throw *operation_->error();
}

std::optional<Error> Work::error() const {
  return operation_->done() ? operation_->error() : std::nullopt;
}
void Work::on_done(std::function<void(const Error*)> callback) const {
  operation_->on_done(std::move(callback));
}
std::uint64_t Work::sequence() const { return operation_->sequence; }
milliseconds Work::timeout() const { return operation_->timeout; }
std::chrono::nanoseconds Work::duration() const {
  return operation_->done() ? operation_->finished - operation_->submitted : Clock::duration(0);
}
int Work::source_rank() const { return operation_->other ? operation_->other->rank : -1; }
std::string Work::description() const { return operation_->text(); }

// ---- Communicator ----

Communicator::Communicator(std::shared_ptr<CommunicatorState> state) : state_(std::move(state)) {}
Communicator::~Communicator() {
  if (state_) state_->shutdown();
}
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;

int Communicator::rank() const { return state_->rank; }
int Communicator::size() const { return state_->size; }
const std::string& Communicator::name() const { return state_->options.name; }

Work Communicator::all_reduce(ConstBytes in, Bytes out, DType dtype, ReduceOp op,
                              const CallOptions& options) {
  expect_supported(op, dtype);
  expect_bytes(out.size(), in.size(), "all_reduce output");
  const auto elems = elems_of(in, dtype, "all_reduce");
  return state_->submit({.collective = Collective::kAllReduce,
                         .in = in,
                         .out = out,
                         .dtype = dtype,
                         .op = op,
                         .root = -1,
                         .elems = elems},
                        options);
}

Work Communicator::broadcast(Bytes buffer, DType dtype, int root, const CallOptions& options) {
  expect_rank(root, size(), "root rank");
  const auto elems = elems_of(buffer, dtype, "broadcast");
  return state_->submit({.collective = Collective::kBroadcast,
                         .in = buffer,
                         .out = buffer,
                         .dtype = dtype,
                         .op = ReduceOp::kSum,
                         .root = root,
                         .elems = elems},
                        options);
}

Work Communicator::all_gather(ConstBytes in, Bytes out, DType dtype, const CallOptions& options) {
  expect_bytes(out.size(), times(in.size(), size()), "all_gather output");
  const auto elems = elems_of(in, dtype, "all_gather");
  return state_->submit({.collective = Collective::kAllGather,
                         .in = in,
                         .out = out,
                         .dtype = dtype,
                         .op = ReduceOp::kSum,
                         .root = -1,
                         .elems = elems},
                        options);
}

Work Communicator::reduce_scatter(ConstBytes in, Bytes out, DType dtype, ReduceOp op,
                                  const CallOptions& options) {
  expect_supported(op, dtype);
  expect_bytes(in.size(), times(out.size(), size()), "reduce_scatter input");
  const auto elems = elems_of(out, dtype, "reduce_scatter");
  return state_->submit({.collective = Collective::kReduceScatter,
                         .in = in,
                         .out = out,
                         .dtype = dtype,
                         .op = op,
                         .root = -1,
                         .elems = elems},
                        options);
}

Work Communicator::reduce(ConstBytes in, Bytes out, DType dtype, ReduceOp op, int root,
                          const CallOptions& options) {
  expect_supported(op, dtype);
  expect_rank(root, size(), "root rank");
  if (rank() == root) expect_bytes(out.size(), in.size(), "reduce output");
  const auto elems = elems_of(in, dtype, "reduce");
  return state_->submit({.collective = Collective::kReduce,
                         .in = in,
                         .out = rank() == root ? out : Bytes{},
                         .dtype = dtype,
                         .op = op,
                         .root = root,
                         .elems = elems},
                        options);
}

Work Communicator::gather(ConstBytes in, Bytes out, DType dtype, int root,
                          const CallOptions& options) {
  expect_rank(root, size(), "root rank");
  if (rank() == root) expect_bytes(out.size(), times(in.size(), size()), "gather output");
  const auto elems = elems_of(in, dtype, "gather");
  return state_->submit({.collective = Collective::kGather,
                         .in = in,
                         .out = rank() == root ? out : Bytes{},
                         .dtype = dtype,
                         .op = ReduceOp::kSum,
                         .root = root,
                         .elems = elems},
                        options);
}

Work Communicator::scatter(ConstBytes in, Bytes out, DType dtype, int root,
                           const CallOptions& options) {
  expect_rank(root, size(), "root rank");
  if (rank() == root) expect_bytes(in.size(), times(out.size(), size()), "scatter input");
  const auto elems = elems_of(out, dtype, "scatter");
  return state_->submit({.collective = Collective::kScatter,
                         .in = rank() == root ? in : ConstBytes{},
                         .out = out,
                         .dtype = dtype,
                         .op = ReduceOp::kSum,
                         .root = root,
                         .elems = elems},
                        options);
}

Work Communicator::all_to_all(ConstBytes in, Bytes out, DType dtype, const CallOptions& options) {
  expect_bytes(out.size(), in.size(), "all_to_all output");
  const auto elems = elems_of(in, dtype, "all_to_all");
  if (elems % static_cast<std::uint64_t>(size()) != 0) {
    throw std::invalid_argument(
        fmt::format("all_to_all: {} elements cannot be cut into {} equal blocks", elems, size()));
  }
  return state_->submit({.collective = Collective::kAllToAll,
                         .in = in,
                         .out = out,
                         .dtype = dtype,
                         .op = ReduceOp::kSum,
                         .root = -1,
                         .elems = elems / static_cast<std::uint64_t>(size())},
                        options);
}

Work Communicator::barrier(const CallOptions& options) {
  return state_->submit({.collective = Collective::kBarrier}, options);
}

Work Communicator::send(ConstBytes data, DType dtype, int to, std::int64_t tag,
                        const CallOptions& options) {
  expect_rank(to, size(), "destination rank");
  if (to == rank()) throw std::invalid_argument("send: a rank cannot send to itself");
  elems_of(data, dtype, "send");
  return state_->submit_point_to_point(
      {.is_send = true, .peer = to, .tag = tag, .data = data, .place = {}}, dtype, options);
}

Work Communicator::recv(Bytes data, DType dtype, int from, std::int64_t tag,
                        const CallOptions& options) {
  expect_rank(from, size(), "source rank");
  if (from == rank()) throw std::invalid_argument("recv: a rank cannot receive from itself");
  elems_of(data, dtype, "recv");
  return state_->submit_point_to_point(
      {.is_send = false, .peer = from, .tag = tag, .data = {}, .place = data}, dtype, options);
}

void Communicator::set_timeout(milliseconds timeout) { state_->timeout_ms = timeout.count(); }
milliseconds Communicator::timeout() const { return milliseconds(state_->timeout_ms.load()); }
void Communicator::abort(std::string_view reason) { state_->abort(reason); }
void Communicator::shutdown() { state_->shutdown(); }
std::optional<Error> Communicator::error() const { return state_->error(); }
std::uint64_t Communicator::operations_submitted() const { return state_->next_sequence.load(); }

}  // namespace treadle
