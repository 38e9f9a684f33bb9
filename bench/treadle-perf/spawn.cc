#include "bench/treadle-perf/spawn.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>
#include <vector>

#include "core/error.h"

namespace treadle {
namespace {

namespace fs = std::filesystem;

// The others learn of a failed rank within two heartbeats and then say what they know.
constexpr milliseconds kGrace{15'000};
constexpr milliseconds kLook{20};

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_((fs::temp_directory_path() / "treadle-perf-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) {
      throw system_error(errno, "making a directory {} for the ranks to meet in", path_);
    }
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The living children, by rank; those that are left are killed.
class Children {
 public:
  struct Ended {
    int rank;
    int status;
  };
  explicit Children(int ranks) : pids_(static_cast<std::size_t>(ranks), 0) {}
  ~Children() { kill_all(); }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  void start(int rank, const std::function<int()>& body) {
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) throw system_error(errno, "starting rank {}", rank);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) std::_Exit(1);  // it ended before the call above
      const int code = body();
      std::fflush(nullptr);
      std::_Exit(code);  // what the parent owns is not the child's to destroy
    }
    pids_[static_cast<std::size_t>(rank)] = pid;
  }

  bool any() const {
    return std::ranges::any_of(pids_, [](pid_t pid) { return pid != 0; });
  }

  // Nothing if none ends until then.
  std::optional<Ended> wait_for_one(Deadline by) {
    while (true) {
      for (std::size_t rank = 0; rank < pids_.size(); ++rank) {
        int status = 0;
        if (pids_[rank] == 0 || ::waitpid(pids_[rank], &status, WNOHANG) != pids_[rank]) continue;
        pids_[rank] = 0;
        return Ended{static_cast<int>(rank), status};
      }
      if (Clock::now() >= by) return std::nullopt;
      std::this_thread::sleep_for(kLook);
    }
  }

  // Returns the ranks that still ran.
  std::vector<int> kill_all() {
    std::vector<int> killed;
    for (std::size_t rank = 0; rank < pids_.size(); ++rank) {
      if (pids_[rank] == 0) continue;
      ::kill(pids_[rank], SIGKILL);
      ::waitpid(pids_[rank], nullptr, 0);
      pids_[rank] = 0;
      killed.push_back(static_cast<int>(rank));
    }
    return killed;
  }

 private:
  std::vector<pid_t> pids_;
};

// Returns the first exit code other than 0.
int supervise(Children& children) {
  int code = 0;
  Deadline by = Deadline::max();
  while (children.any()) {
    const auto ended = children.wait_for_one(by);
    if (!ended) {
      fmt::print(stderr, "treadle-perf: ended ranks {}, which went on after the failure\n",
                 fmt::join(children.kill_all(), ", "));
      break;
    }
    if (WIFSIGNALED(ended->status)) {
      const int signal = WTERMSIG(ended->status);
      fmt::print(stderr, "treadle-perf: rank {} was killed by signal {} ({}); ending the others\n",
                 ended->rank, signal, ::strsignal(signal));
      return 1;
    }
    if (const int failed = WEXITSTATUS(ended->status); failed != 0 && code == 0) {
      code = failed;
      by = deadline_after(kGrace);
    }
  }
  return code;
}

}  // namespace

int spawn_ranks(int ranks, const std::function<int(const RankPlace&)>& body) {
  const TemporaryDirectory directory;
  Children children(ranks);
  std::fflush(nullptr);  // or every child prints what is buffered
  for (int rank = 0; rank < ranks; ++rank) {
    children.start(rank, [&] {
      return body({.rank = rank,
                   .ranks = ranks,
                   .rendezvous = fmt::format("file:{}", directory.path()),
                   .owns_directory = true});
    });
  }
  return supervise(children);
}

}  // namespace treadle
