#include "tests/tools/tool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include "core/error.h"

namespace treadle {
namespace {

std::string read_rest(std::FILE* stream) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), stream)) > 0;) {
    text.append(buffer.data(), got);
  }
  return text;
}

[[noreturn]] void become(const std::filesystem::path& program,
                         const std::vector<std::string>& arguments,
                         const std::map<std::string, std::string>& variables) {
  for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  std::_Exit(127);
}

}  // namespace

std::filesystem::path tool_path(const std::string& name) {
  // Tests lie in build/<preset>/tests, tools in build/<preset>.
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / name;
}

Tool::Tool(const std::string& name, const std::vector<std::string>& arguments,
           const std::map<std::string, std::string>& variables)
    : stderr_(std::tmpfile()) {
  const auto program = tool_path(name);
  std::array<int, 2> pipe{};
  if (stderr_ == nullptr || ::pipe2(pipe.data(), O_CLOEXEC) != 0) {
    throw system_error(errno, "making files for {}", program.string());
  }
  pid_ = ::fork();
  if (pid_ < 0) throw system_error(errno, "starting {}", program.string());
  if (pid_ == 0) {
    ::dup2(pipe[1], STDOUT_FILENO);
    ::dup2(::fileno(stderr_), STDERR_FILENO);
    become(program, arguments, variables);
  }
  ::close(pipe[1]);
  stdout_ = ::fdopen(pipe[0], "r");
}

Tool::~Tool() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::fclose(stdout_);
  std::fclose(stderr_);
}

std::vector<pid_t> Tool::children() const {
  std::ifstream in(fmt::format("/proc/{0}/task/{0}/children", pid_));
  std::vector<pid_t> found;
  for (pid_t child = 0; in >> child;) found.push_back(child);
  return found;
}

std::string Tool::read_line() {
  std::string line;
  for (int c = std::fgetc(stdout_); c != EOF && c != '\n'; c = std::fgetc(stdout_)) {
    line += static_cast<char>(c);
  }
  return line;
}

int Tool::wait() {
  out_ = read_rest(stdout_);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  std::rewind(stderr_);
  err_ = read_rest(stderr_);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace treadle
