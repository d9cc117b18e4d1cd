#pragma once

// The delta rule by chunks of 64 rows (specification 3.5.7). For .cu files.
//
// With X = exp(G) K S the rows of a chunk are V' = T (V - X), T = (I + N)^-1 diag(beta), which is
// the specification's U - W S without W and U. What needs no state is made for all chunks at once
// (PrepareChunks); the serial pass (RunChunks) then has three products between a chunk's state and
// the next one's, and two more for the outputs.
//
// Products are of bf16 with f32 sums, everything else is f32, the state and the inverse above all,
// and G a sum in double, since differences of G are used and a head that forgets at once makes it
// large. Each operand is rounded once on its way into a product: q, k and v, T, V - X, V', the
// attention, and a copy of the state that only this product sees. So what is added to the state is
// wrong by some 2^-9 of itself, at random; that is not carried on as an error of the state would
// be, because the next chunk's V - X sees the state that there is. As much as GPU engines round.

#include "kernels/cuda/delta_rule.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {

// scratch.conv and the gates to scratch.inverse, .attention and .decay.
void PrepareChunks(const DeltaParams& params, const ChunkScratch& scratch, Queue& queue);

// All of the scratch to out, without norm and gate, and recurrent_state.
void RunChunks(const DeltaParams& params, const ChunkScratch& scratch, Queue& queue);

// out = rms_norm(out) * norm_weight * silu(z) of the chunk rows (specification 3.5.8).
void GateAndNorm(const DeltaParams& params, Queue& queue);

}  // namespace deltaserve::cuda
