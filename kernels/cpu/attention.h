#pragma once

// Causal attention over the paged cache.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// Positions whose scores are held at once; partial results of splits are merged in order.
inline constexpr int64_t kSplitTokens = 256;

// See AttentionArgs. A few rows of a sequence and the query heads of one KV head share each read of
// the cache. Chunks are shared out by such runs; rows that decode by splits, so that one sequence
// alone fills all threads. Scratch: per thread, by sizes of the model and the most blocks that a
// slot may have, not by rows or positions.
void Attention(const AttentionArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
