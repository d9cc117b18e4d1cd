#pragma once

// Log-probabilities of a chosen id, of the most likely ones and of some that rows name.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See LogProbsArgs. Needs no scratch.
void LogProbs(const LogProbsArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
