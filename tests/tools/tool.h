// Runs one of the command-line tools as a process of its own.
#pragma once
#include <sys/types.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace treadle {

// Where the build puts the tools, relative to this test program; may not exist.
std::filesystem::path tool_path(const std::string& name);

class Tool {
 public:
  Tool(const std::string& name, const std::vector<std::string>& arguments,
       const std::map<std::string, std::string>& variables = {});
  ~Tool();  // kills it if it still runs
  Tool(const Tool&) = delete;
  Tool& operator=(const Tool&) = delete;

  pid_t pid() const { return pid_; }
  std::vector<pid_t> children() const;  // in the order of their creation

  std::string read_line();  // of stdout, without the end of line; empty at its end
  // Reads the rest of both streams and returns the exit code, or minus the signal's number.
  int wait();
  const std::string& out() const { return out_; }  // what read_line() has not taken
  const std::string& err() const { return err_; }

 private:
  pid_t pid_ = -1;
  std::FILE* stdout_ = nullptr;
  std::FILE* stderr_ =
      nullptr;  // a file without a name, so that neither stream can block the other
  std::string out_;
  std::string err_;
};

}  // namespace treadle
