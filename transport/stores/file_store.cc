#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "core/error.h"
#include "transport/store.h"

namespace treadle {
namespace {

namespace fs = std::filesystem;

// Keys become file names: everything but letters and digits is written as _XX.
std::string file_name_of(std::string_view key) {
  std::string name;
  for (const char c : key) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      name += c;
    } else {
      name += fmt::format("_{:02x}", static_cast<unsigned char>(c));
    }
  }
  return name;
}

class FileStore final : public Store {
 public:
  explicit FileStore(const std::string& directory) : directory_(directory) {
    std::error_code failure;
    fs::create_directories(directory_, failure);
    if (failure) {
      throw Error(ErrorCode::kSystem, "rendezvous directory {}: {}", directory, failure.message());
    }
  }

  // A reader sees the whole value or none: it is written aside and renamed.
  void set(std::string_view key, std::string_view value) override {
    const fs::path target = directory_ / file_name_of(key);
    fs::path aside = target;
    aside +=
        fmt::format(".{}.{}.{}", ::getpid(), reinterpret_cast<std::uintptr_t>(this), ++writes_);
    std::ofstream out(aside, std::ios::binary);
    out.write(value.data(), static_cast<std::streamsize>(value.size()));
    out.close();
    std::error_code failure;
    if (out) fs::rename(aside, target, failure);
    if (!out || failure) {
      throw Error(ErrorCode::kSystem, "writing {}: {}", target.string(),
                  failure ? failure.message() : "the file could not be written");
    }
  }

  std::optional<std::string> get(std::string_view key, Deadline by) override {
    const fs::path path = directory_ / file_name_of(key);
    auto pause = milliseconds(1);
    while (true) {
      if (std::ifstream in(path, std::ios::binary); in) {
        return std::string(std::istreambuf_iterator<char>(in), {});
      }
      const auto now = Clock::now();
      if (now >= by) return std::nullopt;
      std::this_thread::sleep_for(std::min<Clock::duration>(pause, by - now));
      pause = std::min(2 * pause, milliseconds(20));
    }
  }

 private:
  const fs::path directory_;
  std::atomic<int> writes_{0};
};

}  // namespace

std::unique_ptr<Store> file_store(const std::string& directory) {
  return std::make_unique<FileStore>(directory);
}

}  // namespace treadle
