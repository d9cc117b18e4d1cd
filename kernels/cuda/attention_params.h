#pragma once

// The op Attention as kernels get it.

#include "kernels/cuda/attention_sizes.h"

namespace deltaserve::cuda {

struct AttentionParams {
  const bf16* q;        // [rows, num_heads, kHeadDim]
  const bf16* qg;       // [rows, num_heads, 2 kHeadDim]
  const bf16* k_cache;  // [blocks, num_kv_heads, kBlock, kHeadDim]
  const bf16* v_cache;
  bf16* out;  // [rows, num_heads, kHeadDim]
  const int32_t* positions;
  const int32_t* row_sequence;
  const int32_t* row_begin;
  const int32_t* slot;
  const int32_t* block_table;
  int64_t max_blocks;
  int num_heads;
  int num_kv_heads;
};

// Of an op with at least one row; shapes and alignment are checked.
AttentionParams CheckedParams(const AttentionArgs& args);

}  // namespace deltaserve::cuda
