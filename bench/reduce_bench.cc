// How fast one core folds P inputs: every version that runs here, beside memcpy.
//
// Bytes per second count each input once and the output once; memcpy counts its input and its
// output, so that equal numbers mean equal memory traffic.
#include "core/kernels/reduce.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace {

using namespace treadle;

// 1 as each dtype: a sum of P of them is exact.
std::vector<std::byte> ones(DType dtype, std::size_t elems) {
  std::vector<std::byte> one(size_of(dtype));
  const float f32 = 1;
  const double f64 = 1;
  if (dtype == DType::kF64) {
    std::memcpy(one.data(), &f64, sizeof f64);
  } else if (dtype == DType::kF32) {
    std::memcpy(one.data(), &f32, sizeof f32);
  } else if (is_float(dtype)) {
    narrow_from_f32(dtype, &f32, one.data(), 1);
  } else {
    one[0] = std::byte{1};
  }
  std::vector<std::byte> all;
  for (std::size_t i = 0; i < elems; ++i) all.insert(all.end(), one.begin(), one.end());
  return all;
}

// Whether the fold of ones is the number of inputs, seen through an average: 1 again.
bool averages_to_one(const std::vector<std::byte>& sum, DType dtype, int inputs) {
  if (!is_float(dtype)) return sum[0] == static_cast<std::byte>(inputs);
  const std::size_t elems = sum.size() / size_of(dtype);
  std::vector<std::byte> average(sum.size());
  const std::byte* in = sum.data();
  choose_fold("portable")
      .fold(dtype, ReduceOp::kAvg)(average.data(), &in, 1, elems,
                                   {.before = 1.0, .divisor = static_cast<double>(inputs)});
  return average == ones(dtype, elems);
}

void bm_fold(benchmark::State& state, const FoldVersion& version, DType dtype, int inputs) {
  const auto bytes = static_cast<std::size_t>(state.range(0)) * 1024;
  const std::size_t elems = bytes / size_of(dtype);
  const std::vector<std::vector<std::byte>> in(static_cast<std::size_t>(inputs),
                                               ones(dtype, elems));
  std::vector<const std::byte*> pointers;
  for (const auto& input : in) pointers.push_back(input.data());
  std::vector<std::byte> out(bytes);

  const FoldFunction fold = version.fold(dtype, ReduceOp::kSum);
  fold(out.data(), pointers.data(), inputs, elems, {});
  if (!averages_to_one(out, dtype, inputs)) return state.SkipWithError("wrong sum");
  for (auto _ : state) {
    fold(out.data(), pointers.data(), inputs, elems, {});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes) * (inputs + 1));
}

void bm_memcpy(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0)) * 1024;
  const std::vector<std::byte> in(bytes, std::byte{1});
  std::vector<std::byte> out(bytes);
  for (auto _ : state) {
    std::memcpy(out.data(), in.data(), bytes);
    benchmark::ClobberMemory();
  }
  if (out != in) return state.SkipWithError("wrong copy");
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes) * 2);
}

// Per input: within the first-level cache, the second, a staging window, and beyond all caches.
benchmark::internal::Benchmark* with_sizes(benchmark::internal::Benchmark* bench) {
  return bench->ArgName("KiB")->Arg(8)->Arg(64)->Arg(256)->Arg(32 << 10);
}

void register_all() {
  with_sizes(benchmark::RegisterBenchmark("memcpy", bm_memcpy));
  constexpr std::array kDTypesHere = {DType::kF32, DType::kF64, DType::kBF16,
                                      DType::kF16, DType::kI64, DType::kI8};
  for (const FoldVersion& version : fold_versions()) {
    if (!version.runs_here()) continue;
    for (const DType dtype : kDTypesHere) {
      for (const int inputs : {2, 4}) {
        const auto name = fmt::format("fold/{}/{}/inputs:{}", version.name, name_of(dtype), inputs);
        with_sizes(benchmark::RegisterBenchmark(name.c_str(),
                                                [&version, dtype, inputs](benchmark::State& state) {
                                                  bm_fold(state, version, dtype, inputs);
                                                }));
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
