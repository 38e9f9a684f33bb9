// Where ranks meet before they can talk: a key-value store shared by all of them.
//
// Implementations: a c10d store (torch shim), a directory of files, a server in rank 0's process.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/config.h"

namespace treadle {

class Store {
 public:
  virtual ~Store() = default;

  // Creates or replaces. Throws Error(kSystem) if the store is out of reach.
  virtual void set(std::string_view key, std::string_view value) = 0;

  // The value; waits for the key until `by`, then returns nothing. Throws Error(kSystem) if the
  // store is out of reach. Threads: any, one call at a time; a call must not keep others from using
  // the underlying store for more than 100 ms, so callers pass near deadlines and ask again.
  virtual std::optional<std::string> get(std::string_view key, Deadline by) = 0;
};

// Files in `directory`, which all ranks see (tests, one host, a shared file system). Creates it.
std::unique_ptr<Store> file_store(const std::string& directory);

// Rank 0 serves on host:port, the others call it. The server lives as long as rank 0's object. IPv6
// hosts in brackets: "[::1]:29500". Port 0 is refused. Clients retry until `by`.
std::unique_ptr<Store> tcp_store(std::string_view host_and_port, int rank, Deadline by);

// In one process: every Store made from the same map sees the same keys. For tests.
class MemoryStoreMap;
std::shared_ptr<MemoryStoreMap> memory_store_map();
std::unique_ptr<Store> memory_store(std::shared_ptr<MemoryStoreMap> map);

}  // namespace treadle
