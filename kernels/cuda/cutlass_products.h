#pragma once

// A matrix product for each expert by CUTLASS's grouped kernel for sm_90a (TMA and wgmma), in the
// files cutlass_*_rows.cu. Over the shim it is a plain kernel, shim/plain_experts.cu.

#include "kernels/cuda/expert_rows.h"

namespace deltaserve::cuda {

class Queue;

// The products of `matrices`, added in f32. Nothing that lies on the device is read by the host: a
// grid that fills the GPU shares out the tiles that there are. Tiles of kManyTileRows or of
// kFewTileRows (grouped_products.h). An error of the call shows when the device is synchronised.
void MultiplyManyRows(const ExpertMatrices& matrices, Arena& arena, Queue& queue);
void MultiplyFewRows(const ExpertMatrices& matrices, Arena& arena, Queue& queue);

}  // namespace deltaserve::cuda
