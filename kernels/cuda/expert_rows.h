#pragma once

// What a library's product for each expert takes: the rows of an expert one after another, and
// arrays of sizes and addresses. All is made on the device from ExpertGroups; the host knows only
// that there are at most as many rows as pairs. Rows beyond the held pairs are not touched.

#include "kernels/cuda/expert_groups.h"

namespace deltaserve::cuda {

class Queue;

// For each expert held here out = x . weight^T over its own rows, of which it may have none. Arrays
// by expert, in device memory. Matrices are bf16 and row-major, their rows aligned to 16 bytes.
struct ExpertMatrices {
  int64_t num_experts = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  const int32_t* sizes = nullptr;       // [num_experts, 3]: columns, rows, depth
  const void* const* weight = nullptr;  // [columns, depth]
  const void* const* x = nullptr;       // [rows, depth]
  void* const* out = nullptr;           // [rows, columns]
  // [num_experts] each: elements from a row to the next.
  const int64_t* weight_stride = nullptr;
  const int64_t* x_stride = nullptr;
  const int64_t* out_stride = nullptr;
};

// The arrays for bf16 weight [num_experts, columns, depth], x [pairs, depth or more] in the order
// of `groups` and out [pairs, columns]. Sizes are multiples of 8.
ExpertMatrices MakeExpertMatrices(const ExpertGroups& groups,
                                  const void* weight,
                                  int64_t depth,
                                  const TensorView& x,
                                  const TensorView& out,
                                  Arena& arena,
                                  Queue& queue);

// to[position] = x[the pair's row], in the order of `groups`; places[pair] = position.
//   x: bf16 [rows, hidden], to: bf16 [pairs, hidden]; places: i32 [pairs], of pairs of experts held
//   elsewhere not written
void GatherExpertRows(const ExpertGroups& groups,
                      const TensorView& x,
                      int64_t top_k,
                      const TensorView& to,
                      const TensorView& places,
                      Queue& queue);

// gate = silu(gate) * up. gate_up: bf16 [pairs, 2 width], gate first.
void ActivateExpertRows(const ExpertGroups& groups, const TensorView& gate_up, Queue& queue);

}  // namespace deltaserve::cuda
