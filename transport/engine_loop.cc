// What the holder of the baton does: one round of looking, and the list of what is looked at.
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "transport/engine.h"
#include "transport/epoll.h"

namespace treadle {
namespace {

void drain(int eventfd) {
  std::uint64_t rings = 0;
  [[maybe_unused]] const auto got = ::read(eventfd, &rings, sizeof rings);
}

}  // namespace

template <typename Body>
void Engine::guarded_on_loop(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    if (!options_.on_exception) throw;
    options_.on_exception(error);
  } catch (const std::exception& error) {
    if (!options_.on_exception) throw;
    options_.on_exception(Error(ErrorCode::kBug, "{}", error.what()));
  }
}

bool Engine::run_ready_on_loop(bool look_at_fds) {
  bool moved = run_posted_on_loop();
  moved |= run_timers_on_loop();
  for (std::size_t i = 0; i < pollers_.size(); ++i) {
    guarded_on_loop([&] { moved |= pollers_[i]->poll_on_loop(); });
  }
  if (look_at_fds) moved |= poll_fds_on_loop(0);
  return moved;
}

bool Engine::run_posted_on_loop() {
  if (!has_posted_.load(std::memory_order_acquire)) return false;
  std::vector<std::function<void()>> functions;
  {
    const std::lock_guard lock(mutex_);
    functions.swap(posted_);
    has_posted_.store(false);
  }
  for (auto& function : functions) {
    guarded_on_loop(function);
    function = nullptr;  // what it holds is released before a later function may end its owner
  }
  return !functions.empty();
}

bool Engine::run_timers_on_loop() {
  bool ran = false;
  if (timers_.empty()) return ran;
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto function = std::move(timers_.begin()->second.second);
    timers_.erase(timers_.begin());
    guarded_on_loop(function);
    ran = true;
  }
  return ran;
}

bool Engine::poll_fds_on_loop(int timeout_ms) {
  std::array<epoll_event, 32> events{};
  const int count = ::epoll_wait(epoll_fd_, events.data(), events.size(), timeout_ms);
  sleeping_.store(false);  // what handlers post is seen without a ring
  bool moved = false;
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    if (fd == doorbell_->fd()) {
      drain(fd);
      continue;
    }
    // A handler may remove this or another descriptor.
    const auto entry = fds_.find(fd);
    if (entry == fds_.end()) continue;
    const auto handler = entry->second.handler;
    guarded_on_loop([&] { (*handler)(events[static_cast<std::size_t>(i)].events); });
    moved = true;
  }
  return moved;
}

void Engine::announce_sleep_on_loop(bool asleep) {
  for (Poller* poller : pollers_) poller->announce_sleep_on_loop(asleep);
}

Deadline Engine::next_wake_on_loop(Deadline by) const {
  return timers_.empty() ? by : std::min(by, timers_.begin()->first);
}

// ---- registrations ----

void Engine::add_fd_on_loop(int fd, std::uint32_t events, FdHandler handler) {
  control_epoll(epoll_fd_, EPOLL_CTL_ADD, fd, events);
  fds_[fd] = {events, std::make_shared<FdHandler>(std::move(handler))};
}

void Engine::change_fd_on_loop(int fd, std::uint32_t events) {
  const auto entry = fds_.find(fd);
  TREADLE_CHECK(entry != fds_.end(), "descriptor {} is not registered", fd);
  if (entry->second.events == events) return;
  control_epoll(epoll_fd_, EPOLL_CTL_MOD, fd, events);
  entry->second.events = events;
}

void Engine::remove_fd_on_loop(int fd) {
  if (fds_.erase(fd) > 0) control_epoll(epoll_fd_, EPOLL_CTL_DEL, fd, 0);
}

void Engine::add_poller_on_loop(Poller& poller) { pollers_.push_back(&poller); }
void Engine::remove_poller_on_loop(Poller& poller) { std::erase(pollers_, &poller); }

std::uint64_t Engine::add_timer_on_loop(Deadline at, std::function<void()> function) {
  const auto id = next_timer_++;
  timers_.emplace(at, std::make_pair(id, std::move(function)));
  return id;
}

void Engine::cancel_timer_on_loop(std::uint64_t id) {
  const auto found =
      std::ranges::find_if(timers_, [id](const auto& t) { return t.second.first == id; });
  if (found != timers_.end()) timers_.erase(found);
}

}  // namespace treadle
