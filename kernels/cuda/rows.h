#pragma once

// BuildRows, Embed, GatherRows and StoreSampled. See kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

void BuildRows(const BuildRowsArgs& args, Queue& queue);
// table and out: bf16 or f32 each.
void Embed(const EmbedArgs& args, Queue& queue);
// x and out: of one dtype, whichever.
void GatherRows(const GatherRowsArgs& args, Queue& queue);

void StoreSampled(const StoreSampledArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
