#pragma once

// What requests change of logits before a token is sampled.

#include "kernels/base/thread_pool.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See PenalizeArgs. On the calling thread: entries are few.
void Penalize(const PenalizeArgs& args);

// See MaskLogitsArgs.
void MaskLogits(const MaskLogitsArgs& args, ThreadPool& pool);

}  // namespace deltaserve::cpu
