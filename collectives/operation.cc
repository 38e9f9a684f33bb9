#include "collectives/operation.h"

#include "collectives/context_state.h"

namespace treadle {

Operation::Operation(std::shared_ptr<ContextState> owner, const Description& what,
                     std::uint64_t number, milliseconds limit, std::optional<OtherSide> with)
    : context(std::move(owner)),
      description(what),
      sequence(number),
      timeout(limit),
      submitted(Clock::now()),
      deadline(deadline_after(limit)),
      other(with) {}

void Operation::complete(std::optional<Error> error) {
  finished = Clock::now();
  error_ = std::move(error);
  std::function<void(const Error*)> callback;
  {
    const std::lock_guard lock(mutex_);
    done_.store(true, std::memory_order_release);
    callback.swap(callback_);
  }
  if (callback) {
    context->engine.run_user_code(
        [callback = std::move(callback), error = error_] { callback(error ? &*error : nullptr); });
  }
}

void Operation::on_done(std::function<void(const Error*)> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!done_.load(std::memory_order_relaxed)) {
      callback_ = std::move(callback);
      return;
    }
  }
  context->engine.run_user_code(
      [callback = std::move(callback), error = error_] { callback(error ? &*error : nullptr); });
}

std::string Operation::text() const {
  if (other) {
    return fmt::format("{} of {} x {} {} rank {}", other->is_send ? "send" : "recv",
                       description.elems, name_of(description.dtype),
                       other->is_send ? "to" : "from", other->rank);
  }
  const std::string what = description.text();
  const auto space = what.find(' ');
  if (space == std::string::npos) return fmt::format("{} #{}", what, sequence);
  return fmt::format("{} #{}{}", what.substr(0, space), sequence, what.substr(space));
}

}  // namespace treadle
