#pragma once

// Queries and keys ready for attention, keys and values into the cache.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

inline constexpr int64_t kMaxRotaryDim = 512;

// See AttentionPrepareArgs. Angles are position * inv_frequency rounded to f32, as the reference
// implementations round them; their sine and cosine are computed in double.
void AttentionPrepare(const AttentionPrepareArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
