// The inputs and outputs of one size: several copies, used in turn, so that caches do not flatter.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "bench/treadle-perf/operations.h"
#include "bench/treadle-perf/options.h"
#include "bench/treadle-perf/pattern.h"

namespace treadle {

class Buffers {
 public:
  struct Shape {
    int rank = 0;
    int ranks = 1;
    std::size_t block_bytes = 0;
    int most_copies = 1;
  };
  // Makes copies of up to 64 MiB together, at least two unless one is larger than that.
  Buffers(const MeasuredOperation& operation, const PerfOptions& options, const Shape& shape);

  // The same on all ranks.
  int copies() const { return copies_; }
  ConstBytes in(int copy) const;
  Bytes out(int copy) const;

  void prepare();  // writes the inputs, and what no result looks like into the outputs
  // Says what is wrong with the outputs of the first `used` copies; nothing if they are right.
  std::optional<std::string> complaint(int used) const;

 private:
  Bytes region(int copy) const;
  Bytes writable_in(int copy) const;

  const MeasuredOperation& operation_;
  const Shape shape_;
  const bool in_place_;
  Pattern pattern_;
  std::size_t in_bytes_ = 0;
  std::size_t out_bytes_ = 0;
  std::size_t stride_ = 0;
  int copies_ = 1;
  std::unique_ptr<std::byte[]> memory_;
  std::byte* first_ = nullptr;  // page-aligned within memory_
};

}  // namespace treadle
