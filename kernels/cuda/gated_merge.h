#pragma once

// What follows a library's attention: partial results merged, and the op's sigmoid gate.

#include "kernels/cuda/attention_params.h"
#include "kernels/cuda/paged_tiles.h"

namespace deltaserve::cuda {

// Results of parts of the positions, by PagedTiles::first_partial.
struct Partials {
  bf16* values;      // [partials, num_heads, kHeadDim], a softmax over the part's positions alone
  float* log2_sums;  // [partials, num_heads]: log2 of the sum of 2^score, -infinity where the row
                     // sees none of the part
};

// p.out of the rows of `part` = sigmoid(gate) * sum over parts of the positions, in their order, of
// values weighted by their share of the sum of weights.
void MergeGated(const AttentionParams& p,
                const PagedPart& part,
                const PagedTiles& tiles,
                const Partials& partials,
                Queue& queue);

// p.out of the rows of `part` *= sigmoid(gate)
void Gate(const AttentionParams& p, const PagedPart& part, Queue& queue);

}  // namespace deltaserve::cuda
