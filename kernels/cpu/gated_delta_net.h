#pragma once

// Gated DeltaNet between its projections.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See GatedDeltaNetArgs. Scratch: a chunk's rows and matrices of one head a thread.
void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
