#include "transport/engine.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>

#include "core/error.h"
#include "core/processor.h"
#include "transport/epoll.h"

namespace treadle {

void control_epoll(int epoll_fd, int operation, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_fd, operation, fd, &event) != 0) {
    throw system_error(errno, "epoll_ctl on descriptor {}", fd);
  }
}

namespace {

constexpr int kSpins = 40;   // about a microsecond of looking at memory only
constexpr int kYields = 20;  // then so many offers of the CPU to others, then sleep

int make_eventfd() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw system_error(errno, "creating an eventfd");
  return fd;
}

int make_epoll() {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) throw system_error(errno, "creating an epoll instance");
  return fd;
}

}  // namespace

Doorbell::~Doorbell() { ::close(fd_); }

void Doorbell::ring() const noexcept {
  const std::uint64_t one = 1;
  // EAGAIN means that it is ringing already.
  [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof one);
}

// Runs user code in the order it was handed over. Shared with its thread, so that an Engine may be
// destroyed by the user code itself.
struct Engine::UserThread {
  std::mutex mutex;
  std::condition_variable ready;
  std::deque<std::function<void()>> queue;
  bool stop = false;
  bool started = false;
  std::thread thread;

  static void main(const std::shared_ptr<UserThread>& self) {
    std::unique_lock lock(self->mutex);
    while (true) {
      self->ready.wait(lock, [&] { return self->stop || !self->queue.empty(); });
      if (self->queue.empty()) return;
      auto code = std::move(self->queue.front());
      self->queue.pop_front();
      lock.unlock();
      code();
      code = nullptr;
      lock.lock();
    }
  }
};

Engine::Engine(const Options& options)
    : options_(options),
      process_(::getpid()),
      epoll_fd_(make_epoll()),
      outer_fd_(make_epoll()),
      doorbell_(std::make_shared<Doorbell>(make_eventfd())),
      stop_(std::make_unique<Doorbell>(make_eventfd())),
      user_(std::make_shared<UserThread>()) {
  control_epoll(epoll_fd_, EPOLL_CTL_ADD, doorbell_->fd(), EPOLLIN);
  control_epoll(outer_fd_, EPOLL_CTL_ADD, stop_->fd(), EPOLLIN);
  control_epoll(outer_fd_, EPOLL_CTL_ADD, epoll_fd_, EPOLLIN | EPOLLONESHOT);
  if (options_.start_thread) thread_ = std::thread([this] { thread_main(); });
}

Engine::~Engine() {
  if (::getpid() != process_) {
    // A forked child: the threads do not exist here, and what the parent shares must not be
    // disturbed.
    if (thread_.joinable()) thread_.detach();
    if (user_->thread.joinable()) user_->thread.detach();
    ::close(epoll_fd_);
    ::close(outer_fd_);
    return;
  }
  stopping_ = true;
  stop_->ring();
  wake();
  if (thread_.joinable()) thread_.join();
  {
    const std::lock_guard lock(user_->mutex);
    user_->stop = true;
  }
  user_->ready.notify_all();
  if (user_->thread.joinable()) {
    if (user_->thread.get_id() == std::this_thread::get_id()) {
      user_->thread.detach();
    } else {
      user_->thread.join();
    }
  }
  ::close(epoll_fd_);
  ::close(outer_fd_);
}

bool Engine::on_loop() const {
  return driver_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

void Engine::enqueue(std::function<void()> function, bool caller_waits) {
  bool ring = false;
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(function));
    has_posted_.store(true);  // before reading sleeping_: the driver does the reverse
    ring = driven_ ? sleeping_.load() : !caller_waits;
  }
  if (ring) wake();
}

void Engine::post(std::function<void()> function) { enqueue(std::move(function), false); }
void Engine::post_before_wait(std::function<void()> function) {
  enqueue(std::move(function), true);
}

void Engine::run_on_loop(const std::function<void()>& function) {
  if (on_loop()) return function();
  std::atomic<bool> ran{false};
  std::exception_ptr failure;
  post_before_wait([&] {
    try {
      function();
    } catch (...) {
      failure = std::current_exception();
    }
    ran.store(true, std::memory_order_release);
    notify_waiters_on_loop();
  });
  wait_until([&] { return ran.load(std::memory_order_acquire); }, Deadline::max());
  if (failure) std::rethrow_exception(failure);
}

void Engine::run_user_code(std::function<void()> function) {
  {
    const std::lock_guard lock(user_->mutex);
    user_->queue.push_back(std::move(function));
    if (!user_->started) {
      user_->started = true;
      user_->thread = std::thread([user = user_] { UserThread::main(user); });
    }
  }
  user_->ready.notify_one();
}

// ---- the baton ----

void Engine::arm_thread(bool armed) {
  if (!options_.start_thread) return;
  control_epoll(outer_fd_, EPOLL_CTL_MOD, epoll_fd_,
                armed ? static_cast<std::uint32_t>(EPOLLIN | EPOLLONESHOT) : 0U);
}

void Engine::take_baton_locked() {
  driven_ = true;
  driver_.store(std::this_thread::get_id(), std::memory_order_relaxed);
}

// Gives the baton to a waiter, or leaves the descriptors to the engine's thread.
void Engine::leave_baton(std::unique_lock<std::mutex>& lock) {
  if (waiters_.empty()) {
    // Peers must ring from now on; what came in just before they knew is seen by this last look.
    lock.unlock();
    announce_sleep_on_loop(true);
    const bool moved = run_ready_on_loop(false);
    const auto next = next_wake_on_loop(Clock::now() + options_.slice).time_since_epoch().count();
    thread_wake_.store(next);  // before reading how long the thread sleeps: it does the reverse
    const bool is_late = options_.start_thread && thread_sleeps_until_.load() > next;
    lock.lock();
    if (moved || is_late || !posted_.empty()) wake();
  }
  driver_.store(std::thread::id{}, std::memory_order_relaxed);
  driven_ = false;
  if (!waiters_.empty()) {
    waiters_.front()->ready.notify_one();
  } else {
    arm_thread(true);
  }
}

bool Engine::wait_until(const std::function<bool()>& done, Deadline by) {
  TREADLE_CHECK(!on_loop(), "waiting on the loop would wait for itself");
  if (done()) return true;
  std::unique_lock lock(mutex_);
  Waiter self;
  bool listed = false;
  while (!done() && Clock::now() < by) {
    if (!driven_) {
      if (listed) waiters_.remove(&self);
      listed = false;
      take_baton_locked();
      has_waiters_ = !waiters_.empty();
      lock.unlock();
      arm_thread(false);
      drive(done, by, false);
      lock.lock();
      leave_baton(lock);
      break;
    }
    if (!listed) {
      waiters_.push_back(&self);
      has_waiters_ = true;
      listed = true;
    }
    // A slice bounds the damage of a lost wake-up.
    self.ready.wait_until(lock, std::min(by, Clock::now() + options_.slice));
  }
  if (listed) {
    waiters_.remove(&self);
    has_waiters_ = !waiters_.empty();
    // The baton may have been offered to this thread just as its own wait ended.
    if (!driven_) {
      if (waiters_.empty()) {
        take_baton_locked();
        leave_baton(lock);
      } else {
        waiters_.front()->ready.notify_one();
      }
    }
  }
  return done();
}

void Engine::notify_waiters_on_loop() {
  if (!has_waiters_.load()) return;
  const std::lock_guard lock(mutex_);
  for (Waiter* waiter : waiters_) waiter->ready.notify_one();
}

void Engine::drive(const std::function<bool()>& done, Deadline by, bool is_engine_thread) {
  announce_sleep_on_loop(false);
  int idle = 0;
  while (!done()) {
    const bool look_at_fds = idle == 0 || idle > kSpins;
    if (run_ready_on_loop(look_at_fds)) {
      idle = 0;
      continue;
    }
    if (done() || (is_engine_thread && has_waiters_.load())) return;
    ++idle;
    if (idle <= kSpins) {
      cpu_relax();
      continue;
    }
    if (Clock::now() >= by) return;
    if (idle <= kSpins + kYields) {
      ::sched_yield();
      continue;
    }
    if (is_engine_thread) return;
    sleep_on_loop(done, by);
    idle = 0;
  }
}

void Engine::sleep_on_loop(const std::function<bool()>& done, Deadline by) {
  sleeping_.store(true);  // before reading has_posted_ and the pollers' words
  announce_sleep_on_loop(true);
  if (!has_posted_.load() && !run_ready_on_loop(false) && !done()) {
    const auto until = next_wake_on_loop(std::min(by, Clock::now() + options_.slice));
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
    poll_fds_on_loop(static_cast<int>(std::max<std::int64_t>(left, 0)));
  }
  sleeping_.store(false);
  announce_sleep_on_loop(false);
}

void Engine::thread_main() {
  thread_wake_.store(0);
  while (!stopping_) {
    std::array<epoll_event, 2> events{};
    thread_sleeps_until_.store(kNotKnown);
    const auto until = Deadline(Clock::duration(thread_wake_.load()));
    thread_sleeps_until_.store(until.time_since_epoch().count());
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
    const auto timeout = std::clamp(left, milliseconds(0), options_.slice);
    ::epoll_wait(outer_fd_, events.data(), events.size(), static_cast<int>(timeout.count()));
    std::unique_lock lock(mutex_);
    if (driven_ || !waiters_.empty()) {
      // Somebody else looks after everything, timers included; look again when the last one who
      // left wanted it, or a slice later.
      const auto now = Clock::now();
      auto stale = until.time_since_epoch().count();
      if (until <= now) {
        thread_wake_.compare_exchange_strong(stale,
                                             (now + options_.slice).time_since_epoch().count());
      }
      continue;
    }
    take_baton_locked();
    lock.unlock();
    drive([this] { return stopping_.load(); }, Deadline::max(), true);
    lock.lock();
    leave_baton(lock);
  }
}

}  // namespace treadle
