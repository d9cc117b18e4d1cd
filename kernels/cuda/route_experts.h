#pragma once

// Which experts a row goes to.

#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

inline constexpr int64_t kMaxExperts = 512;
inline constexpr int64_t kMaxTopK = 16;

// See RouteExpertsArgs. Up to kMaxExperts experts and kMaxTopK chosen ones. A warp a row; a logit
// that is no number is chosen last.
void RouteExperts(const RouteExpertsArgs& args, Queue& queue);

}  // namespace deltaserve::cuda
