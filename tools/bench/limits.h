#pragma once

// What the machine can do at best, measured in the same run as what is compared with it.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/thread_pool.h"

namespace deltaserve::bench {

// Rates a second; 0 where nothing was measured (a device whose limits are not the host's).
struct Limits {
  double read_bytes = 0;
  double fma_flops = 0;
  double int8_operations = 0;
};

// Bytes below which caches hold a part of what is read.
inline constexpr int64_t kReadBytes = int64_t{1} << 30;

// The best of a few passes on all threads of `pool`: reads of `read_bytes` distinct bytes, in huge
// pages as weights are, taken for the call alone; and both RateLoops. About a second for
// kReadBytes. Main thread.
Limits MeasureLimits(ThreadPool& pool, int64_t read_bytes);

// Of an even number the mean of the two in the middle; `values` is not empty.
double MedianOf(std::vector<double> values);

// The median of each rate; `all` is not empty.
Limits MedianOf(const std::vector<Limits>& all);

// Of processes that measured at the same time.
Limits SumOf(const std::vector<Limits>& all);

// "reads 25.1 GB/s, f32 263 GFLOP/s (vfmadd, 512 bits), int8 1010 GOP/s (vpdpbusd, 512 bits)"
std::string LimitsText(const Limits& limits);

}  // namespace deltaserve::bench
