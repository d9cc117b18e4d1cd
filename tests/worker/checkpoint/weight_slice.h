#pragma once

// What each rank must hold of a weight, written from the tensor-parallel contract of the
// specification (5.1) by weight name, apart from the code under test.

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve {

// Rows [begin, end) and columns [first, last) of experts [e0, e1).
struct Slice {
  std::vector<std::pair<int64_t, int64_t>> rows;
  int64_t first_col = 0, last_col = 0;
  int64_t first_expert = 0, last_expert = 1;
};

// Share `rank` of `size`, starting at `start`.
inline std::pair<int64_t, int64_t> Share(int64_t start, int64_t size, int64_t ranks, int64_t rank) {
  return {start + rank * size / ranks, start + (rank + 1) * size / ranks};
}

// `rows`, `cols`: of the whole weight (of one expert).
inline Slice ContractSlice(const std::string& name,
                           const ModelConfig& config,
                           const ParallelOptions& options,
                           int64_t rank,
                           int64_t rows,
                           int64_t cols) {
  const int64_t tp = options.ranks;
  Slice slice = {.rows = {{0, rows}}, .last_col = cols};
  const auto ends = [&](const char* ending) { return absl::EndsWith(name, ending); };
  const bool expert = absl::StrContains(name, ".experts.");
  if (expert) slice.last_expert = config.num_experts;
  const bool replicated = absl::StrContains(name, ".linear_attn.") &&
                          options.linear_attention == LinearAttentionMode::kReplicated;
  if (replicated || ends("norm.weight") || ends(".mlp.gate.weight") ||
      ends("shared_expert_gate.weight")) {
    return slice;
  }
  const int64_t kd = config.linear_num_key_heads * config.linear_key_head_dim;
  const int64_t vd = config.linear_num_value_heads * config.linear_value_head_dim;
  if (expert && options.moe == MoeMode::kExpert) {
    std::tie(slice.first_expert, slice.last_expert) = Share(0, config.num_experts, tp, rank);
  } else if (ends("in_proj_qkv.weight") || ends("conv1d.weight")) {
    slice.rows = {Share(0, kd, tp, rank), Share(kd, kd, tp, rank), Share(2 * kd, vd, tp, rank)};
  } else if (ends("gate_up_proj.weight") || ends("gate_up_proj")) {
    slice.rows = {Share(0, rows / 2, tp, rank), Share(rows / 2, rows / 2, tp, rank)};
  } else if (ends("k_proj.weight") || ends("v_proj.weight")) {
    const int64_t kv = config.num_key_value_heads;
    const int64_t head = rank / (tp / kv > 0 ? tp / kv : 1);
    slice.rows = {tp > kv ? std::pair(head * config.head_dim, (head + 1) * config.head_dim)
                          : Share(0, rows, tp, rank)};
  } else if (ends("out_proj.weight") || ends("o_proj.weight") || ends("down_proj.weight") ||
             ends("down_proj")) {
    std::tie(slice.first_col, slice.last_col) = Share(0, cols, tp, rank);
  } else if (ends("embed_tokens.weight") || ends("lm_head.weight")) {
    slice.rows = {Share(0, 128, tp, rank)};  // the padded vocabulary of TinyConfig
  } else {
    slice.rows = {Share(0, rows, tp, rank)};
  }
  return slice;
}

// The bytes of `slice` of `whole`, [experts, rows, cols] of elements of `size` bytes.
inline std::string Cut(
    const std::string& whole, const Slice& slice, int64_t rows, int64_t cols, int64_t size) {
  std::string out;
  for (int64_t expert = slice.first_expert; expert < slice.last_expert; ++expert) {
    for (const auto& [begin, end] : slice.rows) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t first = ((expert * rows + row) * cols + slice.first_col) * size;
        out += whole.substr(static_cast<size_t>(first),
                            static_cast<size_t>((slice.last_col - slice.first_col) * size));
      }
    }
  }
  return out;
}

}  // namespace deltaserve
