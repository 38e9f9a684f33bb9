#include "plugins/torch/recorder.h"

#include <algorithm>
#include <utility>

namespace treadle {

void Recorder::completed(const Record& record) {
  const std::lock_guard lock(mutex_);
  auto row = std::find_if(totals_.begin(), totals_.end(),
                          [&](const Totals& t) { return t.name == record.name; });
  if (row == totals_.end()) row = totals_.insert(row, Totals{.name = record.name});
  ++row->operations;
  row->size_bytes += record.size_bytes;
  row->failures += record.failed ? 1 : 0;
  row->duration += record.duration;
  if (max_records_ == 0) return;
  if (records_.size() < max_records_) {
    records_.push_back(record);
  } else {
    ++dropped_;
  }
}

void Recorder::waited(Clock::duration duration) {
  const std::lock_guard lock(mutex_);
  waited_ += duration;
}

std::vector<Recorder::Totals> Recorder::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

Clock::duration Recorder::waited() const {
  const std::lock_guard lock(mutex_);
  return waited_;
}

void Recorder::start_trace(std::size_t max_records) {
  const std::lock_guard lock(mutex_);
  records_.clear();
  dropped_ = 0;
  max_records_ = max_records;
}

std::vector<Record> Recorder::stop_trace() {
  const std::lock_guard lock(mutex_);
  max_records_ = 0;
  return std::exchange(records_, {});
}

std::uint64_t Recorder::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace treadle
