#pragma once

// The choice of the next token.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See SampleLocalArgs.
void SampleLocal(const SampleLocalArgs& args, ThreadPool& pool);

// See SampleArgs. Scratch: one (probability, id) pair a vocabulary row for each busy thread.
void Sample(const SampleArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
