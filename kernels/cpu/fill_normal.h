#pragma once

// The op that draws random weights.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See FillNormalArgs.
void FillNormal(const FillNormalArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
