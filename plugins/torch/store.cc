#include "plugins/torch/store.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"

namespace treadle {
namespace {

constexpr milliseconds kFirstPause{1};
constexpr milliseconds kLongestPause{50};

class C10dStore final : public Store {
 public:
  explicit C10dStore(c10::intrusive_ptr<c10d::Store> original)
      : original_(std::move(original)), store_(clone_of(original_)) {}

  void set(std::string_view key, std::string_view value) override {
    ask("setting", key, [&] {
      store_->set(std::string(key), std::vector<std::uint8_t>(value.begin(), value.end()));
    });
  }

  // Polls: a blocking get would hold the client, and with it everybody else who uses it, for as
  // long as a rank is late.
  std::optional<std::string> get(std::string_view key, Deadline by) override {
    const std::string name(key);
    for (milliseconds pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
      std::optional<std::string> value;
      ask("reading", key, [&] {
        if (!store_->check({name})) return;
        const auto bytes = store_->get(name);
        value.emplace(bytes.begin(), bytes.end());
      });
      if (value) return value;
      const auto left = by - Clock::now();
      if (left <= Clock::duration::zero()) return std::nullopt;
      std::this_thread::sleep_for(std::min<Clock::duration>(pause, left));
    }
  }

 private:
  static c10::intrusive_ptr<c10d::Store> clone_of(const c10::intrusive_ptr<c10d::Store>& store) {
    try {
      return store->clone();
    } catch (const std::exception&) {
      return store;  // stores written in Python need not have clone()
    }
  }

  template <typename Body>
  static void ask(const char* doing, std::string_view key, Body&& body) {
    try {
      body();
    } catch (const c10::Error& error) {
      throw Error(ErrorCode::kSystem, "{} key '{}' in the store of the process group: {}", doing,
                  key, error.what_without_backtrace());
    } catch (const std::exception& error) {
      throw Error(ErrorCode::kSystem, "{} key '{}' in the store of the process group: {}", doing,
                  key, error.what());
    }
  }

  c10::intrusive_ptr<c10d::Store> original_;
  c10::intrusive_ptr<c10d::Store> store_;
};

}  // namespace

std::shared_ptr<Store> c10d_store(c10::intrusive_ptr<c10d::Store> store) {
  return std::make_shared<C10dStore>(std::move(store));
}

}  // namespace treadle
