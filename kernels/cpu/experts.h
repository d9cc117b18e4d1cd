#pragma once

// Routed experts: rows grouped by expert, each expert a gated feed-forward.

#include <memory>

#include "kernels/base/thread_pool.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/ops.h"

namespace deltaserve::cpu {

// See Ops::PackExperts.
std::unique_ptr<ExpertWeights> PackExperts(Buffer gate_up,
                                           Buffer down,
                                           DType dtype,
                                           int64_t num_experts,
                                           int64_t hidden,
                                           int64_t width,
                                           const WeightFormat& format,
                                           ThreadPool& pool);

// See ExpertsArgs. Threads own columns of the width, then of the hidden size, and walk the experts
// in ascending order, so that a row's sum has one order. Scratch: rows * top_k * width f32 and a
// block of packed rows a thread.
void Experts(const ExpertsArgs& args, Arena& arena, ThreadPool& pool);

}  // namespace deltaserve::cpu
