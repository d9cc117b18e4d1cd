#pragma once

// Loops over the pool, or on the caller alone where waking threads costs more than the work.

#include <cstdint>

#include "kernels/base/thread_pool.h"

namespace deltaserve::cpu {

// Runs [0, n) as ThreadPool::ParallelFor does, or as one call on thread 0 where n * cost is small.
// `cost` is the work of one index, in elements touched or multiply-adds of eight lanes.
inline void ParallelFor(
    ThreadPool& pool, int64_t n, int64_t grain, int64_t cost, ThreadPool::Body body) {
  constexpr int64_t kSerialBelow = 1 << 14;
  if (n == 0) return;
  if (n * cost < kSerialBelow) {
    body(0, n, 0);
  } else {
    pool.ParallelFor(n, grain, body);
  }
}

}  // namespace deltaserve::cpu
