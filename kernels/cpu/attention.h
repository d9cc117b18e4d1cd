#pragma once

// Causal attention over the paged cache.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// Positions whose scores are held at once; partial results of splits are merged in order.
inline constexpr int64_t kSplitTokens = 256;

// See AttentionArgs. Work is shared out by (row tile, KV head): a tile's rows and the query heads
// of one KV head share each read of the cache. Scratch: per thread, independent of context length.
void Attention(const AttentionArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
