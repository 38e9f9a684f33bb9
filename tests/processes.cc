#include "tests/processes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <stdexcept>

#include "core/error.h"

namespace treadle {
namespace {

struct Ends {
  int read;
  int write;
};

// Sockets rather than a pipe for what the test writes: a rank that is gone must not end the test.
Ends make_socket_pair() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    throw system_error(errno, "making a pair of sockets");
  }
  return {fds[0], fds[1]};
}

Ends make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) throw system_error(errno, "making a pipe");
  return {fds[0], fds[1]};
}

int open_pid(pid_t pid) {
  const auto fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) throw system_error(errno, "opening process {}", pid);
  return static_cast<int>(fd);
}

// False if nothing can be read at `by`.
bool readable(int fd, Deadline by) {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(by - Clock::now()).count();
    pollfd wanted{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&wanted, 1, static_cast<int>(std::clamp<long>(left, 0, 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) throw system_error(errno, "polling descriptor {}", fd);
    if (Clock::now() >= by) return false;
  }
}

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

}  // namespace

void RankProcess::report(std::string_view text) const {
  std::string line = fmt::format("{} {}", Clock::now().time_since_epoch().count(), text);
  line += '\0';
  for (std::string_view rest = line; !rest.empty();) {
    const auto wrote = ::write(reports_fd_, rest.data(), rest.size());
    if (wrote < 0) ::_exit(Processes::kUncaught);  // the test has gone
    rest.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

void RankProcess::await_go() const {
  char byte = 0;
  if (::read(go_fd_, &byte, 1) != 1) ::_exit(Processes::kUncaught);
}

Processes::Processes(int ranks, const Body& body) {
  for (int rank = 0; rank < ranks; ++rank) ranks_.push_back(start(rank, body));
}

Processes::Rank Processes::start(int rank, const Body& body) {
  const Ends reports = make_pipe();
  const Ends go = make_socket_pair();
  const pid_t test = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw system_error(errno, "forking rank {}", rank);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != test) ::_exit(kUncaught);
    ::close(reports.read);
    ::close(go.write);
    RankProcess self(reports.write, go.read);
    try {
      body(rank, self);
    } catch (const std::exception& error) {
      self.report(std::string("uncaught: ") + error.what());
      ::_exit(kUncaught);
    }
    ::_exit(0);
  }
  ::close(reports.write);
  ::close(go.read);
  Rank started;
  started.pid = pid;
  started.pid_fd = open_pid(pid);
  started.reports_fd = reports.read;
  started.go_fd = go.write;
  return started;
}

Processes::~Processes() {
  for (Rank& rank : ranks_) {
    if (!rank.end) {
      ::kill(rank.pid, SIGKILL);
      ::waitpid(rank.pid, nullptr, 0);
    }
    for (const int fd : {rank.pid_fd, rank.reports_fd, rank.go_fd}) ::close(fd);
  }
}

void Processes::go(int rank) const {
  if (::send(at(rank).go_fd, "g", 1, MSG_NOSIGNAL) != 1) {
    throw system_error(errno, "telling rank {} to go", rank);
  }
}

void Processes::kill(int rank) {
  if (at(rank).end) return;
  ::kill(at(rank).pid, SIGKILL);
  await_end(rank, Deadline::max());
}

void Processes::stop(int rank) const {
  ::kill(at(rank).pid, SIGSTOP);
  int status = 0;
  ::waitpid(at(rank).pid, &status, WUNTRACED);
  if (!WIFSTOPPED(status)) throw std::runtime_error("a rank has ended instead of stopping");
}

void Processes::resume(int rank) const { ::kill(at(rank).pid, SIGCONT); }

// False if there is nothing more to read, or not by `by`.
bool Processes::read_reports(Rank& rank, Deadline by) {
  if (rank.reports_ended || !readable(rank.reports_fd, by)) return false;
  std::array<char, 4096> bytes{};
  const auto got = ::read(rank.reports_fd, bytes.data(), bytes.size());
  rank.reports_ended = got <= 0;
  for (ssize_t i = 0; i < got; ++i) {
    const char c = bytes[static_cast<std::size_t>(i)];
    if (c != '\0') {
      rank.partial += c;
    } else {
      const auto space = rank.partial.find(' ');
      const Clock::duration at(std::stoll(rank.partial.substr(0, space)));
      rank.reports.push_back({Clock::time_point(at), rank.partial.substr(space + 1)});
      rank.partial.clear();
    }
  }
  return !rank.reports_ended;
}

std::optional<std::string> Processes::await_report(int rank, std::string_view text, Deadline by) {
  Rank& one = at(rank);
  for (std::size_t seen = 0;;) {
    for (; seen < one.reports.size(); ++seen) {
      const Report& report = one.reports[seen];
      if (report.text.starts_with(text)) {
        return report.at < by ? std::optional(report.text) : std::nullopt;
      }
    }
    if (!read_reports(one, by)) return std::nullopt;
  }
}

std::optional<int> Processes::await_end(int rank, Deadline by) {
  Rank& one = at(rank);
  if (one.end) return one.end;
  if (!readable(one.pid_fd, by)) return std::nullopt;
  int status = 0;
  ::waitpid(one.pid, &status, 0);
  one.end = code_of(status);
  return one.end;
}

std::string Processes::said(int rank) {
  while (read_reports(at(rank), Clock::now())) {
  }
  std::string text = fmt::format("rank {} said:", rank);
  for (const auto& report : at(rank).reports) text += "\n  " + report.text;
  return text;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "treadle-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw system_error(errno, "making directory {}", name);
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  const bool found = ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0;
  ::close(fd);
  if (!found) throw std::runtime_error("no free port");
  return ::ntohs(address.sin_port);
}

}  // namespace treadle
