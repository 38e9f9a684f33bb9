#include "plugins/torch/work.h"

#include <ATen/core/ivalue_inl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "plugins/torch/gil.h"

namespace treadle {
namespace {

constexpr std::string_view kTitlePrefix = "treadle:";

std::uint64_t total_bytes(const Tensors& tensors) {
  std::uint64_t total = 0;
  for (const auto& tensor : tensors) total += tensor.nbytes();
  return total;
}

c10::intrusive_ptr<c10::ivalue::Future> new_future() {
  return c10::make_intrusive<c10::ivalue::Future>(c10::ListType::ofTensors());
}

void complete(c10::ivalue::Future& future, const Tensors& outputs, std::exception_ptr failure) {
  if (failure) {
    future.setError(std::move(failure));
  } else {
    future.markCompleted(c10::IValue(outputs));
  }
}

}  // namespace

std::exception_ptr to_torch(const Error& error) {
  return std::make_exception_ptr(c10::DistBackendError(
      c10::SourceLocation{__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, error.what()));
}

TreadleWork::TreadleWork(int rank, c10d::OpType type, const char* title, const Tensors& inputs,
                         Operands operands, std::shared_ptr<Recorder> recorder)
    : c10d::Work(rank, type, title, inputs),
      name_(std::string_view(title).substr(kTitlePrefix.size())),
      recorder_(std::move(recorder)),
      process_(::getpid()),
      size_bytes_(total_bytes(inputs)),
      operands_(std::move(operands)) {}

TreadleWork::~TreadleWork() {
  if (!operations_) return;
  if (process_ != ::getpid()) {
    // A forked child: the operations, their locks and their threads are the parent's.
    new Operations(std::move(operations_));
    return;
  }
  // The last handle of an operation may end the engine, which joins threads that may want Python.
  const WithoutGil guard;
  drop_unfinished();
  operations_.reset();
}

// Leaves the tensors with the operations until the last of them has ended.
void TreadleWork::drop_unfinished() {
  if (all_done(operations_)) return;
  auto kept = std::make_shared<std::pair<Operands, Operations>>(std::move(operands_), operations_);
  for (const auto& operation : *operations_) operation.on_done([kept](const Error*) {});
}

void TreadleWork::begin(std::vector<treadle::Work> operations) {
  if (!operations.empty()) {
    sequence_ = operations.front().sequence();
    timeout_ = operations.front().timeout();
    source_rank_ = operations.front().source_rank();
  }
  const auto shared = std::make_shared<const std::vector<treadle::Work>>(std::move(operations));
  {
    const std::lock_guard lock(mutex_);
    operations_ = shared;
  }
  // A profiler's range shall end when the operation does, not when somebody looks.
  if (recordFunctionEndCallback_) listen(shared);
}

TreadleWork::Operations TreadleWork::operations() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

bool TreadleWork::all_done(const Operations& operations) const {
  return std::all_of(operations->begin(), operations->end(),
                     [](const treadle::Work& operation) { return operation.done(); });
}

bool TreadleWork::isCompleted() {
  const Operations pending = operations();
  if (pending && !listening_ && all_done(pending)) {
    const WithoutGil guard;
    settle();
  }
  const std::lock_guard lock(mutex_);
  return completed_;
}

bool TreadleWork::isSuccess() const {
  const std::lock_guard lock(mutex_);
  return completed_ && !exception_;
}

std::exception_ptr TreadleWork::exception() const {
  const std::lock_guard lock(mutex_);
  return exception_;
}

void TreadleWork::wait_for_all(const Operations& operations, milliseconds timeout) {
  const Deadline by = timeout > milliseconds(0) ? deadline_after(timeout) : Deadline::max();
  for (const auto& operation : *operations) {
    try {
      if (by == Deadline::max()) {
        operation.wait();
      } else {
        const auto left = std::chrono::ceil<milliseconds>(by - Clock::now());
        operation.wait_for(std::max(left, milliseconds(0)));
      }
    } catch (const Error& error) {
      // The failure of an operation that has ended is settle's to tell; this is an expired wait.
      if (!operation.done()) std::rethrow_exception(to_torch(error));
    }
  }
}

bool TreadleWork::wait(std::chrono::milliseconds timeout) {
  if (const Operations pending = operations()) {
    const auto from = Clock::now();
    wait_for_all(pending, timeout);
    recorder_->waited(Clock::now() - from);
    settle();
  }
  std::unique_lock lock(mutex_);
  cv_.wait(lock, [this] { return completed_; });  // another thread may be settling right now
  if (exception_) std::rethrow_exception(exception_);
  return true;
}

c10::intrusive_ptr<c10::ivalue::Future> TreadleWork::getFuture() {
  std::unique_lock lock(mutex_);
  if (future_) return future_;
  future_ = new_future();
  const auto future = future_;
  const auto pending = operations_;
  const bool settled = settled_;
  const auto failure = exception_;
  lock.unlock();
  if (settled) {
    complete(*future, operands_.outputs, failure);
  } else if (pending) {
    listen(pending);
  }
  return future;
}

float TreadleWork::getDuration() const {
  const std::lock_guard lock(mutex_);
  return std::chrono::duration<float, std::milli>(duration_).count();
}

// Has the core call back when the last operation has ended.
void TreadleWork::listen(const Operations& operations) {
  if (listening_.exchange(true)) return;
  if (operations->empty()) return settle();
  const auto self = c10::intrusive_ptr<TreadleWork>::reclaim_copy(this);
  const auto left = std::make_shared<std::atomic<std::size_t>>(operations->size());
  for (const auto& operation : *operations) {
    operation.on_done([self, left](const Error*) {
      if (--*left == 0) self->settle();
    });
  }
}

std::exception_ptr TreadleWork::outcome(const std::vector<treadle::Work>& operations) {
  for (const auto& operation : operations) {
    auto error = operation.error();
    if (!error) continue;
    if (operations.size() > 1) error->add_context("running a part of " + std::string(name_));
    return to_torch(*error);
  }
  try {
    if (operands_.copy_out) operands_.copy_out();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}

void TreadleWork::record(const std::vector<treadle::Work>& operations, bool failed) {
  Clock::duration longest{};
  for (const auto& operation : operations) {
    longest = std::max<Clock::duration>(longest, operation.duration());
  }
  {
    const std::lock_guard lock(mutex_);
    duration_ = longest;
  }
  recorder_->completed({.name = name_,
                        .sequence = sequence_,
                        .size_bytes = size_bytes_,
                        .begin = begin_,
                        .duration = longest,
                        .failed = failed});
}

void TreadleWork::settle() {
  if (claimed_.exchange(true)) return;
  const Operations ended = operations();
  const auto failure = outcome(*ended);
  record(*ended, failure != nullptr);
  // Ends the profiler's range, then wakes the waiters.
  finish(failure);

  c10::intrusive_ptr<c10::ivalue::Future> future;
  Operations dropped;
  Tensors tensors;
  {
    const std::lock_guard lock(mutex_);
    settled_ = true;
    future = future_;
    dropped.swap(operations_);
    operands_.copy_out = nullptr;
    tensors.swap(operands_.tensors);
  }
  if (future) complete(*future, operands_.outputs, failure);
}

// ---- CoalescedWork ----

CoalescedWork::CoalescedWork(int rank, std::vector<c10::intrusive_ptr<TreadleWork>> members)
    : c10d::Work(rank, c10d::OpType::COALESCED), members_(std::move(members)) {
  if (members_.empty()) finish();
}

bool CoalescedWork::isCompleted() {
  return std::all_of(members_.begin(), members_.end(),
                     [](const auto& member) { return member->isCompleted(); });
}

bool CoalescedWork::isSuccess() const {
  return std::all_of(members_.begin(), members_.end(),
                     [](const auto& member) { return member->isSuccess(); });
}

std::exception_ptr CoalescedWork::exception() const {
  for (const auto& member : members_) {
    if (auto failure = member->exception()) return failure;
  }
  return nullptr;
}

std::vector<at::Tensor> CoalescedWork::result() {
  Tensors all;
  for (const auto& member : members_) {
    const auto outputs = member->result();
    all.insert(all.end(), outputs.begin(), outputs.end());
  }
  return all;
}

bool CoalescedWork::wait(std::chrono::milliseconds timeout) {
  const Deadline by = timeout > milliseconds(0) ? deadline_after(timeout) : Deadline::max();
  std::exception_ptr first;
  for (const auto& member : members_) {
    auto left = kNoTimeout;
    if (by != Deadline::max()) {
      left = std::max(std::chrono::ceil<milliseconds>(by - Clock::now()), milliseconds(1));
    }
    try {
      member->wait(left);
    } catch (...) {
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
  return true;
}

c10::intrusive_ptr<c10::ivalue::Future> CoalescedWork::getFuture() {
  c10::List<c10::intrusive_ptr<c10::ivalue::Future>> futures(
      c10::FutureType::create(c10::ListType::ofTensors()));
  for (const auto& member : members_) futures.push_back(member->getFuture());
  if (members_.empty()) {
    auto future = new_future();
    future->markCompleted(c10::IValue(Tensors{}));
    return future;
  }
  return c10::collectAll(futures)->then(
      [outputs = result()](c10::ivalue::Future& all) {
        if (all.hasError()) std::rethrow_exception(all.exception_ptr());
        return c10::IValue(outputs);
      },
      c10::ListType::ofTensors());
}

float CoalescedWork::getDuration() const {
  float longest = 0;
  for (const auto& member : members_) longest = std::max(longest, member->getDuration());
  return longest;
}

uint64_t CoalescedWork::getSequencenumber() const {
  return members_.empty() ? 0 : members_.front()->getSequencenumber();
}

std::chrono::milliseconds CoalescedWork::getTimeout() const {
  return members_.empty() ? kNoTimeout : members_.front()->getTimeout();
}

}  // namespace treadle
