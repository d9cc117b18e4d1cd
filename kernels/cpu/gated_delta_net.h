#pragma once

// Gated DeltaNet between its projections.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See GatedDeltaNetArgs. Scratch: rows * (channels + 2 Hv) f32, and a chunk's matrices a thread.
void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
