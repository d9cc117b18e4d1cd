#pragma once

// q and k norm, rotary and the write of k and v into the paged cache. Formulas: kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// head_dim 256 and rotary_dim 64; qg, k, v, q_out and the caches are bf16.
void AttentionPrepare(const AttentionPrepareArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
