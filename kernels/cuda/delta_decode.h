#pragma once

// The delta rule, row by row. For .cu files.

#include "kernels/cuda/delta_rule.h"
#include "kernels/cuda/launch.h"

namespace deltaserve::cuda {

// All of specification 3.5.2 to 3.5.8 for the rows of the first num_decode sequences, each
// sequence's one after another; f32 but for inputs and out. Advances recurrent_state, not
// conv_state.
void DeltaDecode(const DeltaParams& params, Queue& queue);

}  // namespace deltaserve::cuda
