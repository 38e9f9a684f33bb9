#include "core/error.h"

#include <cstring>

namespace treadle {

std::string_view name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kBug:
      return "bug";
    case ErrorCode::kPeerLost:
      return "peer lost";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kMismatch:
      return "mismatch";
    case ErrorCode::kAborted:
      return "aborted";
    case ErrorCode::kRemote:
      return "remote failure";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kSystem:
      return "system";
    case ErrorCode::kUnsupported:
      return "unsupported";
  }
  return "unknown";
}

void Error::add_context(std::string_view doing) {
  text_ += "\n  while ";
  text_ += doing;
}

std::string errno_text(int error_number) {
  return fmt::format("{} (errno {})", std::strerror(error_number), error_number);
}

void throw_bug(const char* file, int line, const char* condition, const std::string& text) {
  throw Error(ErrorCode::kBug, "{} (check `{}` failed at {}:{}; this is a bug in treadle)", text,
              condition, file, line);
}

}  // namespace treadle
