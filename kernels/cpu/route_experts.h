#pragma once

// The router of a mixture of experts.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See RouteExpertsArgs. The choice is made on the logits, whose order is that of the probabilities.
void RouteExperts(const RouteExpertsArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
