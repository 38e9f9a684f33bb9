#include <condition_variable>
#include <map>
#include <mutex>

#include "transport/store.h"

namespace treadle {

class MemoryStoreMap {
 public:
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::string, std::less<>> values;  // guarded by mutex
};

namespace {

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(std::shared_ptr<MemoryStoreMap> map) : map_(std::move(map)) {}

  void set(std::string_view key, std::string_view value) override {
    const std::lock_guard lock(map_->mutex);
    map_->values.insert_or_assign(std::string(key), std::string(value));
    map_->changed.notify_all();
  }
  std::optional<std::string> get(std::string_view key, Deadline by) override {
    std::unique_lock lock(map_->mutex);
    map_->changed.wait_until(lock, by, [&] { return map_->values.contains(key); });
    const auto found = map_->values.find(key);
    if (found == map_->values.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::shared_ptr<MemoryStoreMap> map_;
};

}  // namespace

std::shared_ptr<MemoryStoreMap> memory_store_map() { return std::make_shared<MemoryStoreMap>(); }
std::unique_ptr<Store> memory_store(std::shared_ptr<MemoryStoreMap> map) {
  return std::make_unique<MemoryStore>(std::move(map));
}

}  // namespace treadle
