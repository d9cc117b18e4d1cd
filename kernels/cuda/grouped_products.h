#pragma once

// The two matrix products of the experts, each expert's over its own rows (ExpertGroups).

#include "kernels/cuda/expert_groups.h"
#include "kernels/cuda/expert_weights.h"

namespace deltaserve::cuda {

class Queue;

// Rows of a tile: many where experts have many rows each, few where reading weights is what takes
// the time anyway.
inline constexpr int64_t kManyTileRows = 128;
inline constexpr int64_t kFewTileRows = 32;

// The tile's rows for `pairs` pairs over `num_experts` experts.
int64_t ChooseTileRows(int64_t pairs, int64_t num_experts);

// For each pair of `groups`, in its order: act = silu(gate x) * up x of the pair's row.
//   x: bf16 [rows, hidden]; act: bf16 [pairs, width]
void GroupedGateUp(const ExpertGroups& groups,
                   int64_t tile_rows,
                   const CudaExpertWeights& weights,
                   const TensorView& x,
                   int64_t top_k,
                   const TensorView& act,
                   Queue& queue);

// y[pair] = down act.
//   act: bf16 [pairs, width], in the order of `groups`; y: bf16 [pairs, hidden], by pair; those of
//   experts held elsewhere are not written
void GroupedDown(const ExpertGroups& groups,
                 int64_t tile_rows,
                 const CudaExpertWeights& weights,
                 const TensorView& act,
                 const TensorView& y,
                 Queue& queue);

}  // namespace deltaserve::cuda
