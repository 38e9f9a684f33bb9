// Ranks as processes, to be killed and stopped: each is forked from the test, runs a body, reports
// lines of text through a pipe and leaves by _exit. A test body reads as the story of the group:
//
//   Processes ranks(3, [&](int rank, RankProcess& self) { ... self.report("ready"); ... });
//   ASSERT_TRUE(ranks.await_report(1, "ready", by));
//   ranks.kill(1);
//   EXPECT_EQ(ranks.await_end(0, by), 0);
//
// Fork while the test has one thread. Whatever is left is killed and reaped at the end of the test;
// a rank also dies with the test itself.
#pragma once
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"

namespace treadle {

// What the body of a rank sees of the test.
class RankProcess {
 public:
  RankProcess(int reports_fd, int go_fd) : reports_fd_(reports_fd), go_fd_(go_fd) {}
  void report(std::string_view text) const;
  void await_go() const;  // returns once per go() of the test

 private:
  int reports_fd_;
  int go_fd_;
};

class Processes {
 public:
  using Body = std::function<void(int rank, RankProcess& self)>;
  static constexpr int kUncaught = 3;  // exit code of a body that throws; the text is reported

  Processes(int ranks, const Body& body);
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  void go(int rank) const;
  void kill(int rank);        // SIGKILL; returns when it is dead
  void stop(int rank) const;  // SIGSTOP; returns when it stands still
  void resume(int rank) const;

  // The first report that begins with `text`, made before `by`, past or to come; nothing if there
  // is none.
  std::optional<std::string> await_report(int rank, std::string_view text, Deadline by);
  // Its exit code, or -signal; nothing while it is still there at `by`.
  std::optional<int> await_end(int rank, Deadline by);
  // Everything it has said so far, for messages of failed tests.
  std::string said(int rank);

 private:
  struct Report {
    Clock::time_point at;  // by the clock of the rank, which is that of the test
    std::string text;
  };
  struct Rank {
    pid_t pid = -1;
    int pid_fd = -1;
    int reports_fd = -1;
    int go_fd = -1;
    bool reports_ended = false;
    std::optional<int> end;
    std::string partial;
    std::vector<Report> reports;
  };

  static Rank start(int rank, const Body& body);
  Rank& at(int rank) { return ranks_.at(static_cast<std::size_t>(rank)); }
  const Rank& at(int rank) const { return ranks_.at(static_cast<std::size_t>(rank)); }
  static bool read_reports(Rank& rank, Deadline by);

  std::vector<Rank> ranks_;
};

// A directory that is removed with everything in it at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A tcp port of this host that was free a moment ago.
int free_port();

}  // namespace treadle
