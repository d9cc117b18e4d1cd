#pragma once

// The short causal convolution in front of the delta rule. For .cu files.

#include "kernels/cuda/delta_rule.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {

// The chunk rows of qkv through convolution, SiLU and, for q and k, l2norm (specification 3.5.2 to
// 3.5.4); q times 128^-0.5. Reads the states of the convolution, does not advance them.
// to: bf16 [chunk rows, channels].
void CausalConv(const DeltaParams& params, bf16* to, Queue& queue);

// The state of each sequence = the last three rows of that state and the sequence's rows of qkv.
void AdvanceConvState(const DeltaParams& params, Queue& queue);

}  // namespace deltaserve::cuda
