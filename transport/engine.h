// The progress engine: one epoll, one thread of its own, and a baton.
//
// Whoever holds the baton drives: runs posted functions, polls, reads and writes. A thread that
// waits for something takes the baton and drives itself, so that a blocking call costs no thread
// hand-off; the engine's thread drives while nobody waits. The holder runs no user code. `_on_loop`
// functions are called by the holder of the baton only.
//
// Waiting is: a short spin, at most 20 yields, then sleep in epoll in slices of at most
// heartbeat/4. docs/design/002-progress.md.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/error.h"

namespace treadle {

// Wakes a driver that may be asleep. Any thread, any process that holds it.
class Doorbell {
 public:
  explicit Doorbell(int owned_eventfd) : fd_(owned_eventfd) {}
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;
  void ring() const noexcept;
  int fd() const { return fd_; }

 private:
  int fd_;
};

class Engine {
 public:
  // Called when epoll reports `events` on a file descriptor.
  using FdHandler = std::function<void(std::uint32_t events)>;

  // Something in memory that must be looked at, such as a ring shared with another process.
  class Poller {
   public:
    virtual ~Poller() = default;
    virtual bool poll_on_loop() = 0;  // true: something moved
    // The driver is about to sleep (true) or has woken (false): publish it where peers look, so
    // that they ring the doorbell. The engine polls once more between announcing and sleeping.
    virtual void announce_sleep_on_loop(bool asleep) = 0;
  };

  struct Options {
    milliseconds slice{1000};  // longest sleep
    bool start_thread = true;
    // Called on the loop with what a posted function, timer, poller or handler has thrown; the loop
    // goes on. Must not throw. Without it the exception leaves whoever drives.
    std::function<void(const Error&)> on_exception = {};
  };

  explicit Engine(const Options& options);
  ~Engine();  // joins the thread; nothing is called afterwards
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Runs `function` on the loop, soon. Any thread.
  void post(std::function<void()> function);
  // The same for a caller that will wait_until() at once: wakes nobody if nobody drives.
  void post_before_wait(std::function<void()> function);
  // Makes a sleeping driver look again. Any thread.
  void wake() const { doorbell_->ring(); }
  std::shared_ptr<Doorbell> doorbell() const { return doorbell_; }

  // Drives, or sleeps while another thread drives, until `done()` or the deadline; returns done().
  // `done` is called without the baton, often, and must be cheap. Whoever makes it true on the loop
  // must call notify_waiters_on_loop(). Any thread, several at once.
  bool wait_until(const std::function<bool()>& done, Deadline by);
  void notify_waiters_on_loop();

  // Runs `function` on the loop and returns when it has run. Any thread but the driving one.
  void run_on_loop(const std::function<void()>& function);

  bool on_loop() const;  // does this thread hold the baton?

  void add_fd_on_loop(int fd, std::uint32_t events, FdHandler handler);
  void change_fd_on_loop(int fd, std::uint32_t events);
  void remove_fd_on_loop(int fd);
  void add_poller_on_loop(Poller& poller);
  void remove_poller_on_loop(Poller& poller);
  // Runs `function` at or soon after `at`. Returns an id for cancel.
  std::uint64_t add_timer_on_loop(Deadline at, std::function<void()> function);
  void cancel_timer_on_loop(std::uint64_t id);

  // Runs user code (completions) on a thread of its own, started at first use. Any thread.
  void run_user_code(std::function<void()> function);

 private:
  static constexpr Clock::rep kNotKnown = Deadline::max().time_since_epoch().count();
  struct Waiter {
    std::condition_variable ready;
  };
  struct UserThread;

  void enqueue(std::function<void()> function, bool caller_waits);
  void drive(const std::function<bool()>& done, Deadline by, bool is_engine_thread);
  template <typename Body>
  void guarded_on_loop(const Body& body);
  bool run_ready_on_loop(bool look_at_fds);
  bool run_posted_on_loop();
  bool run_timers_on_loop();
  bool poll_fds_on_loop(int timeout_ms);
  void announce_sleep_on_loop(bool asleep);
  void sleep_on_loop(const std::function<bool()>& done, Deadline by);
  Deadline next_wake_on_loop(Deadline by) const;
  void take_baton_locked();
  void leave_baton(std::unique_lock<std::mutex>& lock);
  void arm_thread(bool armed);
  void thread_main();

  const Options options_;
  const int process_;
  int epoll_fd_ = -1;  // everything a driver waits for
  int outer_fd_ =
      -1;  // what the engine's thread waits for: epoll_fd_ while nobody drives, and stopping
  std::shared_ptr<Doorbell> doorbell_;
  std::unique_ptr<Doorbell> stop_;

  std::mutex mutex_;  // guards posted_, waiters_ and driven_
  std::vector<std::function<void()>> posted_;
  std::list<Waiter*> waiters_;
  bool driven_ = false;

  std::atomic<bool> has_posted_{false};
  std::atomic<bool> has_waiters_{false};
  std::atomic<bool> sleeping_{false};  // the driver is in epoll, or about to be
  std::atomic<bool> stopping_{false};
  std::atomic<std::thread::id> driver_{};
  std::atomic<Clock::rep> thread_wake_{0};  // when the engine's thread must drive at the latest
  std::atomic<Clock::rep> thread_sleeps_until_{kNotKnown};

  // Loop only.
  struct FdEntry {
    std::uint32_t events;
    std::shared_ptr<FdHandler> handler;
  };
  std::map<int, FdEntry> fds_;
  std::vector<Poller*> pollers_;
  std::multimap<Deadline, std::pair<std::uint64_t, std::function<void()>>> timers_;
  std::uint64_t next_timer_ = 1;

  std::shared_ptr<UserThread> user_;
  std::thread thread_;
};

}  // namespace treadle
