// Errors of the world and of this library, with the lines that say what was being attempted.
//
// Our bug -> TREADLE_CHECK throws kBug. A caller's bad argument at a public call ->
// std::invalid_argument. The world failed -> Error. "Not yet", "full" and "absent" are return
// values. The text says what was tried, with which rank, how far it got and the system's reason;
// every frame that knows more adds a "while ..." line. An Error is a value: copy it, store it,
// throw it later.
#pragma once
#include <fmt/format.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace treadle {

enum class ErrorCode {
  kBug,          // a broken promise of this library
  kPeerLost,     // a rank was killed, stopped or cut off
  kTimeout,      // a deadline passed
  kMismatch,     // ranks disagree about an operation or a setting
  kAborted,      // abort() or shutdown() was called here
  kRemote,       // another rank reported a failure that has no better code here
  kCorrupt,      // bytes from outside that make no sense
  kSystem,       // the operating system refused
  kUnsupported,  // cannot be done with this build or on this machine
};

std::string_view name_of(ErrorCode code);

class Error : public std::exception {
 public:
  template <typename... Args>
  Error(ErrorCode code, fmt::format_string<Args...> text, Args&&... args)
      : code_(code), text_(fmt::format(text, std::forward<Args>(args)...)) {}

  ErrorCode code() const { return code_; }
  const char* what() const noexcept override { return text_.c_str(); }

  // The global rank that failed, or -1 where no single rank is to blame.
  int failed_rank() const { return failed_rank_; }
  Error& blame(int rank) {
    failed_rank_ = rank;
    return *this;
  }

  // Adds "\n  while <doing>".
  void add_context(std::string_view doing);

 private:
  ErrorCode code_;
  int failed_rank_ = -1;
  std::string text_;
};

// An Error of kSystem whose text ends with errno's meaning. `error_number` is taken as an argument
// because formatting may change errno.
template <typename... Args>
Error system_error(int error_number, fmt::format_string<Args...> text, Args&&... args);

std::string errno_text(int error_number);

// Runs `body`. An Error that leaves it gains one line saying what was being attempted; the line is
// formatted only then, so this costs nothing on the good path.
template <typename Body, typename... Args>
decltype(auto) attempt(Body&& body, fmt::format_string<const Args&...> doing, const Args&... args) {
  try {
    return std::forward<Body>(body)();
  } catch (Error& error) {
    error.add_context(fmt::format(doing, args...));
    throw;
  }
}

template <typename... Args>
Error system_error(int error_number, fmt::format_string<Args...> text, Args&&... args) {
  return Error(ErrorCode::kSystem, "{}: {}", fmt::format(text, std::forward<Args>(args)...),
               errno_text(error_number));
}

[[noreturn]] void throw_bug(const char* file, int line, const char* condition,
                            const std::string& text);

}  // namespace treadle

// Throws Error{kBug} with the place, the condition and the text if `condition` is false.
#define TREADLE_CHECK(condition, ...)                                                   \
  do {                                                                                  \
    if (!(condition)) {                                                                 \
      ::treadle::throw_bug(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
    }                                                                                   \
  } while (false)
