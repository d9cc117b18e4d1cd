#pragma once

// Gated DeltaNet without its projections (specification 3.5.2 to 3.5.8).

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// See GatedDeltaNetArgs; qkv, z, b, a and out bf16, all else f32. Heads of 128, a convolution of 4.
// Decode rows: one kernel holds a head's state in registers and reads and writes it once a
// sequence, all in f32. Chunks: convolution, then what a chunk of 64 rows needs besides the state,
// then the serial pass over chunks, then the gated norm. The state of the convolution moves on
// last, when nobody reads it any more.
void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena, Queue& queue);

// See Ops::Memory.
OpScratch GatedDeltaNetScratch(const OpSizes& sizes);

}  // namespace deltaserve::cuda
