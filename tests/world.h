// Several ranks in one process, each a thread with a Context of its own: a test body reads as one
// rank's program.
#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "collectives/communicator.h"
#include "transport/memory/memory.h"
#include "transport/store.h"
#include "transport/transport.h"

namespace treadle {

// What the links of a test world are made of.
enum class Links { kMemory, kShm, kTcp };
inline std::string name_of(Links links) {
  return links == Links::kMemory ? "memory" : links == Links::kShm ? "shm" : "tcp";
}

class World {
 public:
  explicit World(int ranks, Links links = Links::kMemory, Config config = {})
      : ranks_(ranks), config_(std::move(config)), map_(memory_store_map()) {
    config_.log_level = "error";
    // A hang is an error with a text.
    if (config_.timeout == Config{}.timeout) config_.timeout = std::chrono::seconds(20);
    if (links == Links::kMemory) {
      rows_ = {memory_row(memory_hub())};
    } else {
      rows_ = standard_transports();
      if (links == Links::kTcp) config_.transport = "tcp";
    }
  }

  std::shared_ptr<Context> context(int rank) const {
    return Context::create({.rank = rank,
                            .ranks = ranks_,
                            .store = memory_store(map_),
                            .config = config_,
                            .transports = rows_});
  }

  // Runs `body` once per rank and returns each rank's exception text, empty where there was none.
  // A rank that has ended closes its communicator while others may still be at work.
  std::vector<std::string> run(const std::function<void(int, Communicator&)>& body) const {
    std::vector<std::string> ends(static_cast<std::size_t>(ranks_));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks_; ++rank) {
      threads.emplace_back([&, rank] {
        auto& end = ends[static_cast<std::size_t>(rank)];
        try {
          const auto mine = context(rank);
          Communicator communicator = mine->communicator({.name = "world"});
          body(rank, communicator);
        } catch (const std::exception& error) {
          end = error.what();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    return ends;
  }

 private:
  int ranks_;
  Config config_;
  std::shared_ptr<MemoryStoreMap> map_;
  std::vector<TransportRow> rows_;
};

template <typename T>
ConstBytes bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}
template <typename T>
Bytes writable_bytes_of(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

}  // namespace treadle
