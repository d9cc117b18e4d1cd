#pragma once

// The op Attention by FlashInfer's kernels: FlashAttention-2 over the paged cache, in tiles of 16
// queries for decodes and of 64 for chunks.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// As Attention (attention.h). Scores and sums are f32, weights of values bf16; the results of parts
// of the positions, or the result before the gate, are rounded to bf16.
void FlashInferAttention(const AttentionArgs& args, Arena& arena, Queue& queue);

// See Ops::Memory. As many slots as rows of decodes.
OpScratch FlashInferAttentionScratch(const OpSizes& sizes, const Queue& queue);

}  // namespace deltaserve::cuda
