#include "tools/bench/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"

namespace deltaserve::bench {
namespace {

constexpr size_t kQuarters = 4;
constexpr int64_t kRateRounds = 4'000'000;  // some ten milliseconds

// Seconds of `body` on every thread of the pool at once.
double Seconds(ThreadPool& pool, ThreadPool::Body body) {
  const auto begin = std::chrono::steady_clock::now();
  pool.ParallelFor(pool.num_threads(), body);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

constexpr double Limits::*kRates[] = {&Limits::read_bytes, &Limits::fma_flops,
                                      &Limits::int8_operations};

}  // namespace

LimitMeter::LimitMeter(ThreadPool& pool, int64_t read_bytes)
    : pool_(pool),
      part_(std::max<size_t>(1,
                             static_cast<size_t>(read_bytes) / kQuarters /
                                 static_cast<size_t>(pool.num_threads()) / kReadBlock) *
            kReadBlock),
      memory_(Buffer::AllocateHost(part_ * static_cast<size_t>(pool.num_threads()) * kQuarters)) {
  pool.ParallelFor(pool.num_threads(), [&](int64_t begin, int64_t end, int) {
    const size_t bytes = part_ * kQuarters;
    for (int64_t i = begin; i < end; ++i) {
      std::memset(static_cast<uint8_t*>(memory_.data()) + bytes * static_cast<size_t>(i), 1, bytes);
    }
  });
}

double LimitMeter::ReadSeconds() {
  const size_t quarter = next_++ % kQuarters;
  const auto* const data = static_cast<const uint8_t*>(memory_.data());
  std::atomic<uint64_t> sink = 0;
  return Seconds(pool_, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      sink += ReadAll(data + part_ * (kQuarters * static_cast<size_t>(i) + quarter), part_);
    }
  });
}

double LimitMeter::RateSeconds(const RateLoop& loop) {
  std::atomic<float> sink = 0;
  return Seconds(pool_, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) sink = loop.run(kRateRounds);
  });
}

Limits LimitMeter::Measure(double seconds) {
  double read = 0, fma = 0, int8 = 0, passes = 0;
  do {
    ++passes;
    read += ReadSeconds();
    fma += RateSeconds(FmaLoop());
    int8 += RateSeconds(Int8Loop());
  } while (read + fma + int8 < seconds);
  const double threads = passes * pool_.num_threads();
  return {
      .read_bytes = static_cast<double>(part_) * threads / read,
      .fma_flops = static_cast<double>(FmaLoop().operations * kRateRounds) * threads / fma,
      .int8_operations = static_cast<double>(Int8Loop().operations * kRateRounds) * threads / int8};
}

const char* Limits::fma_name() const { return gpu ? "bf16 products by cuBLASLt" : FmaLoop().name; }

const char* Limits::int8_name() const { return gpu ? "" : Int8Loop().name; }

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
  median.gpu = all.front().gpu;
  return median;
}

Limits MeanOf(const Limits& a, const Limits& b) {
  Limits mean{.gpu = a.gpu};
  for (const auto rate : kRates) {
    if (a.*rate > 0 && b.*rate > 0) mean.*rate = 2 / (1 / a.*rate + 1 / b.*rate);
  }
  return mean;
}

std::string LimitsText(const Limits& limits) {
  if (limits.gpu) {
    return absl::StrFormat("copies %.1f GB/s, bf16 %.0f TFLOP/s (products by cuBLASLt)",
                           limits.read_bytes / 1e9, limits.fma_flops / 1e12);
  }
  return absl::StrFormat("reads %.1f GB/s, f32 %.0f GFLOP/s (%s), int8 %.0f GOP/s (%s)",
                         limits.read_bytes / 1e9, limits.fma_flops / 1e9, limits.fma_name(),
                         limits.int8_operations / 1e9, limits.int8_name());
}

}  // namespace deltaserve::bench
