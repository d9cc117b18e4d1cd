#pragma once

// What the machine can do at best, measured in the same run as what is compared with it.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/thread_pool.h"
#include "kernels/tensor/tensor_view.h"
#include "tools/bench/limit_loops.h"

namespace deltaserve::bench {

// Rates a second; 0 where nothing was measured.
struct Limits {
  double read_bytes = 0;
  double fma_flops = 0;
  double int8_operations = 0;
  // Of a GPU: copies, read and written, in place of reads, and bf16 matrix products in place of f32
  // operations (kernels/cuda/gpu_limits.h).
  bool gpu = false;

  // How fma_flops and int8_operations were measured.
  const char* fma_name() const;
  const char* int8_name() const;
};

// Bytes below which caches hold a part of what is read.
inline constexpr int64_t kReadBytes = int64_t{1} << 30;

// Reads of distinct bytes in huge pages, as weights are, and both RateLoops, on all threads of a
// pool. Between runs of what is compared with it: a machine that others share is not as fast the
// next second. Main thread. Owns its memory; `pool` outlives it.
class LimitMeter {
 public:
  // Takes `read_bytes`; a read goes over a quarter of them, the next one over the next quarter.
  LimitMeter(ThreadPool& pool, int64_t read_bytes);

  // Some 30 ms, and on until `seconds` are over.
  Limits Measure(double seconds = 0);

  int64_t bytes() const { return static_cast<int64_t>(memory_.bytes()); }

 private:
  double ReadSeconds();
  double RateSeconds(const RateLoop& loop);

  ThreadPool& pool_;
  const size_t part_;  // bytes that a thread reads at a time
  Buffer memory_;
  size_t next_ = 0;  // of the quarters
};

// Of an even number the mean of the two in the middle; `values` is not empty.
double MedianOf(std::vector<double> values);

// The median of each rate; `all` is not empty.
Limits MedianOf(const std::vector<Limits>& all);

// What would have taken as long as half of it at each: the harmonic mean of each rate.
Limits MeanOf(const Limits& a, const Limits& b);

// "reads 25.1 GB/s, f32 263 GFLOP/s (vfmadd, 512 bits), int8 1010 GOP/s (vpdpbusd, 512 bits)"
// "copies 3010.5 GB/s, bf16 790 TFLOP/s (products by cuBLASLt)"
std::string LimitsText(const Limits& limits);

}  // namespace deltaserve::bench
