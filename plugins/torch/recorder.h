// What one process group did: totals always, single operations while a trace is being taken.
//
// Knows no torch. Threads: any; one short lock per finished operation.
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/clock.h"

namespace treadle {

// One finished operation as its caller saw it: from the call to the completion.
struct Record {
  std::string_view name;  // "all_reduce": a literal
  std::uint64_t sequence = 0;
  std::uint64_t size_bytes = 0;
  Clock::time_point begin;
  Clock::duration duration{};
  bool failed = false;
};

class Recorder {
 public:
  struct Totals {
    std::string_view name;
    std::uint64_t operations = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t failures = 0;
    Clock::duration duration{};
  };

  void completed(const Record& record);
  // A caller stood still for so long, waiting for operations.
  void waited(Clock::duration duration);

  std::vector<Totals> totals() const;  // one row per name, in order of first use
  Clock::duration waited() const;

  // Keeps single operations from now on, at most `max_records`; more are only counted.
  void start_trace(std::size_t max_records);
  std::vector<Record> stop_trace();
  std::uint64_t dropped() const;  // operations the last trace had no room for

 private:
  mutable std::mutex mutex_;
  std::vector<Totals> totals_;
  Clock::duration waited_{};
  std::vector<Record> records_;
  std::size_t max_records_ = 0;  // 0: no trace is being taken
  std::uint64_t dropped_ = 0;
};

}  // namespace treadle
