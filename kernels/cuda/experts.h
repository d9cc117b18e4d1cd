#pragma once

// Routed experts. All is found out on the device: the host knows the numbers of rows, choices and
// experts, and nothing of which were chosen.

#include "kernels/cuda/expert_weights.h"

namespace deltaserve::cuda {

class Queue;

// See ExpertsArgs; weights of PackExperts (expert_weights.h). x, shared, shared_gate and out are
// bf16. Products are added in f32; between the two products a value is bf16. Up to kFewRows rows
// are read straight from memory with the weights (few_rows_experts.h). More are sorted by expert
// into tiles (expert_groups.h, grouped_products.h), and then an expert's part of a row is rounded
// to bf16 before the sum. Scratch: for each pair of a row and a choice a row of `width` and one of
// `hidden` in bf16, and the sort's.
void Experts(const ExpertsArgs& args, Arena& arena, Queue& queue);

// See Ops::Memory.
OpScratch ExpertsScratch(const OpSizes& sizes);

// What each expert held here gives for its rows, not yet weighted.
struct ExpertParts {
  TensorView y;                     // bf16 [pairs, hidden]
  const int32_t* places = nullptr;  // [pairs]: the row of y that is a pair's; null: by pair
};

// Computes the parts of more than kFewRows rows into memory of `arena`.
using ManyRowsExperts = ExpertParts (*)(const ExpertsArgs& args,
                                        const CudaExpertWeights& weights,
                                        Arena& arena,
                                        Queue& queue);

// Experts with `many_rows` for its products over many rows.
void ExpertsWith(ManyRowsExperts many_rows, const ExpertsArgs& args, Arena& arena, Queue& queue);

}  // namespace deltaserve::cuda
