#pragma once

// Experts for the rows of a small batch: a chosen expert's weights are read once, as fast as memory
// gives them, and nothing is sorted.

#include "kernels/cuda/expert_weights.h"
#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

inline constexpr int64_t kFewRows = 16;
// hidden * width at most: a lane counts the elements of an expert's gate and up in 31 bits.
inline constexpr int64_t kMaxExpertMatrix = (int64_t{1} << 30) - 1;

// See ExpertsArgs; 1 to kFewRows rows, up to kMaxTopK experts a row, at least one held here. Two
// launches. Scratch: rows * top_k * width bf16.
void FewRowsExperts(const ExpertsArgs& args,
                    const CudaExpertWeights& weights,
                    Arena& arena,
                    Queue& queue);

}  // namespace deltaserve::cuda
