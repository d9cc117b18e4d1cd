#pragma once

// The op that draws random weights. See kernels/ops.h.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// See FillNormalArgs.
void FillNormal(const FillNormalArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
