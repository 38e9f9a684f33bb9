#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
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
      throw Error(ErrorCode::kSystem, "file store: creating directory {}: {}", directory,
                  failure.message());
    }
  }

  // A reader sees the whole value or none: it is written aside and renamed.
  void set(std::string_view key, std::string_view value) override {
    const fs::path target = directory_ / file_name_of(key);
    const fs::path aside = directory_ / fmt::format("{}.{}", aside_, ++writes_);
    std::ofstream out(aside, std::ios::binary);
    out.write(value.data(), static_cast<std::streamsize>(value.size()));
    out.close();
    std::error_code failure;
    if (out) fs::rename(aside, target, failure);
    if (out && !failure) return;
    const std::string reason = failure ? failure.message() : errno_text(errno);
    fs::remove(aside, failure);
    throw Error(ErrorCode::kSystem, "file store: writing {} bytes to {}: {}", value.size(),
                target.string(), reason);
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
  // No key has a dot in its file name. Random, since process ids repeat over hosts.
  const std::string aside_ =
      fmt::format(".{:08x}{:08x}", std::random_device()(), std::random_device()());
  std::atomic<int> writes_{0};
};

}  // namespace

std::unique_ptr<Store> file_store(const std::string& directory) {
  return std::make_unique<FileStore>(directory);
}

}  // namespace treadle
