// The one clock that deadlines are measured with.
#pragma once
#include <chrono>

namespace treadle {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;
using std::chrono::milliseconds;

// Now + `timeout`, without overflow: a timeout of years means "never".
inline Deadline deadline_after(milliseconds timeout) {
  const Deadline now = Clock::now();
  const auto room = std::chrono::duration_cast<milliseconds>(Deadline::max() - now);
  return timeout >= room ? Deadline::max() : now + timeout;
}

}  // namespace treadle
