#pragma once

// WeightSpec: one logical weight of the model and how stored tensors make it. The table of a family
// (worker/models/weight_table.h) is read by loader, planner, checkpoint maker and tests alike.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/tensor/dtype.h"

namespace deltaserve {

// How ranks share a logical weight [rows, cols] (or [experts, rows, cols]).
enum class Split {
  kReplicated,
  kOutput,      // rows, each segment on its own
  kInput,       // columns
  kVocabulary,  // rows, padded to a multiple of lcm(64, ranks); rows past the end are zero
  kKvHeads,     // rows by KV head, replicated when ranks outnumber heads
  kExperts,     // first axis, whole experts (--moe=ep)
};

// A tensor in the file: name without the checkpoint's prefix, and its exact shape.
struct StoredTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// A logical weight: the stored tensors concatenated along the row axis (for kExpertStack: one
// stored tensor an expert and part, stacked), rows then permuted where the format wants it.
struct WeightSpec {
  std::string
      name;  // canonical: the Qwen3.5 name without prefix, e.g. "layers.3.self_attn.q_proj.weight"
  std::vector<int64_t> shape;  // logical, full model: [n], [rows, cols] or [experts, rows, cols]
  std::vector<StoredTensor> stored;
  Split split = Split::kReplicated;
  // Row segments of a fused axis that are split each on its own; sums to the row axis. Empty = one
  // segment.
  std::vector<int64_t> segments;
  // Rows that must stay together on one rank (a head).
  int64_t granule = 1;
  // Logical row -> row of the concatenated stored tensors; empty = identity (Qwen3-Next
  // de-interleaving).
  std::vector<int64_t> row_permutation;
  // kF32 where the stored tensor may be F32 as well as BF16 (A_log, norms); else BF16 or F32 as
  // stored.
  bool optional = false;  // may be absent (lm_head of a tied model)
};

}  // namespace deltaserve
