#pragma once

// Causal softmax attention over the paged cache with its sigmoid gate. Formulas: kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// head_dim 256; q, qg, the caches and out are bf16; any number of query heads a KV head. Sums are
// f32, the weights of values bf16. Rows of one sequence share the read of its cache, so a value
// that is not a number reaches all rows of its sequence in the step that writes it.
void Attention(const AttentionArgs& args, Arena& arena, Queue& queue);

// See Ops::Memory.
OpScratch AttentionScratch(const OpSizes& sizes, const Queue& queue);

}  // namespace deltaserve::cuda
