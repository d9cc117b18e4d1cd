#include "tools/bench/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/tensor/tensor_view.h"
#include "tools/bench/limit_loops.h"

namespace deltaserve::bench {
namespace {

constexpr int kPasses = 5;
constexpr int64_t kRateRounds = 4'000'000;  // some ten milliseconds

// The least time that `body` takes on every thread of the pool at once.
double BestSeconds(ThreadPool& pool, ThreadPool::Body body) {
  double best = 1e300;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool.ParallelFor(pool.num_threads(), body);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    best = std::min(best, taken.count());
  }
  return best;
}

double MeasureRead(ThreadPool& pool, int64_t read_bytes) {
  const int64_t threads = pool.num_threads();
  const auto blocks = std::max<int64_t>(1, read_bytes / threads / static_cast<int64_t>(kReadBlock));
  const size_t part = static_cast<size_t>(blocks) * kReadBlock;
  const Buffer memory = Buffer::AllocateHost(part * static_cast<size_t>(threads));
  auto* const data = static_cast<uint8_t*>(memory.data());
  pool.ParallelFor(threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      std::memset(data + part * static_cast<size_t>(i), 1, part);
  });
  std::atomic<uint64_t> sink = 0;
  const double seconds = BestSeconds(pool, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      sink += ReadAll(data + part * static_cast<size_t>(i), part);
  });
  return static_cast<double>(memory.bytes()) / seconds;
}

double MeasureRate(ThreadPool& pool, const RateLoop& loop) {
  std::atomic<float> sink = 0;
  const double seconds = BestSeconds(pool, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) sink = loop.run(kRateRounds);
  });
  return static_cast<double>(loop.operations * kRateRounds * pool.num_threads()) / seconds;
}

constexpr double Limits::*kRates[] = {&Limits::read_bytes, &Limits::fma_flops,
                                      &Limits::int8_operations};

}  // namespace

Limits MeasureLimits(ThreadPool& pool, int64_t read_bytes) {
  return {.read_bytes = MeasureRead(pool, read_bytes),
          .fma_flops = MeasureRate(pool, FmaLoop()),
          .int8_operations = MeasureRate(pool, Int8Loop())};
}

double MedianOf(std::vector<double> values) {
  DS_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Limits MedianOf(const std::vector<Limits>& all) {
  Limits median;
  for (const auto rate : kRates) {
    std::vector<double> values(all.size());
    std::transform(all.begin(), all.end(), values.begin(),
                   [&](const Limits& limits) { return limits.*rate; });
    median.*rate = MedianOf(std::move(values));
  }
  return median;
}

Limits SumOf(const std::vector<Limits>& all) {
  Limits sum;
  for (const Limits& limits : all) {
    for (const auto rate : kRates) sum.*rate += limits.*rate;
  }
  return sum;
}

std::string LimitsText(const Limits& limits) {
  return absl::StrFormat("reads %.1f GB/s, f32 %.0f GFLOP/s (%s), int8 %.0f GOP/s (%s)",
                         limits.read_bytes / 1e9, limits.fma_flops / 1e9, FmaLoop().name,
                         limits.int8_operations / 1e9, Int8Loop().name);
}

}  // namespace deltaserve::bench
