#pragma once

// WeightSpec: one logical weight of the model and how stored tensors make it. The table of a family
// (weight_table.h) is read by loader, planner, checkpoint maker and tests alike.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/quantization.h"
#include "kernels/tensor/dtype.h"

namespace deltaserve {

// How ranks share a logical weight [rows, cols] (or [experts, rows, cols]).
enum class Split {
  kReplicated,
  kOutput,      // rows, each segment on its own (of every expert, where there are experts)
  kInput,       // columns
  kVocabulary,  // rows, padded to a multiple of lcm(64, ranks); rows past the end are zero
  kKvHeads,     // rows by KV head, replicated when ranks outnumber heads
  kExperts,     // first axis, whole experts (--moe=ep)
};

// Rows of a stored tensor (its first axis) whose drawn values x become scale * x + offset.
struct RowChange {
  int64_t begin = 0;
  int64_t end = 0;
  float scale = 1;
  float offset = 0;
};

// What random weights put into a stored tensor (random_values.h).
struct RandomValues {
  enum class Kind {
    kNormal,    // mean + deviation * N(0, 1)
    kDecay,     // log of U(1, 16): A_log
    kTimeStep,  // inverse softplus of U(1e-3, 0.1): dt_bias
  };
  Kind kind = Kind::kNormal;
  float mean = 0;
  float deviation = 1;
  std::vector<RowChange> changes = {};
};

// A tensor in the file: name without the checkpoint's prefix, and its exact shape.
struct StoredTensor {
  std::string name = {};
  std::vector<int64_t> shape = {};
  DType dtype = DType::kBF16;  // as the family's releases store it; a file may hold BF16 or F32
  RandomValues values = {};
};

// Rows of a fused axis that are split on their own; a rank's share is a multiple of `granule` (the
// rows of a head, which stay together).
struct RowSegment {
  int64_t rows = 0;
  int64_t granule = 1;
};

// A logical weight. Every stored tensor is taken as a matrix [numel / last axis, last axis] (a
// vector as [n, 1]); their rows, concatenated in order and permuted where the format wants it, are
// the rows of the logical weight, experts outermost.
struct WeightSpec {
  // Canonical: the Qwen3.5 name without prefix, e.g. "layers.3.self_attn.q_proj.weight".
  std::string name = {};
  std::vector<int64_t> shape =
      {};  // logical, full model: [n], [rows, cols] or [experts, rows, cols]
  std::vector<StoredTensor> stored = {};
  // Another form of the same rows, taken where the checkpoint holds its first tensor and not
  // stored[0] (fused and per-expert experts). Empty: there is none.
  std::vector<StoredTensor> alternative = {};
  Split split = Split::kReplicated;
  // kOutput, kKvHeads: sums to the rows (of one expert). Otherwise empty.
  std::vector<RowSegment> segments = {};
  // Logical row -> row of the concatenated stored tensors, which may have more rows than the weight
  // (Qwen3-Next); empty = identity.
  std::vector<int64_t> row_permutation = {};
  bool optional = false;  // may be absent (lm_head: embed_tokens serves then)
  // What matrix products may make of it.
  Precision precision = Precision::kExact;

  // The weight as rows of `cols` elements.
  int64_t num_experts() const { return shape.size() == 3 ? shape[0] : 1; }
  int64_t rows() const { return shape.size() == 3 ? shape[1] : shape[0]; }  // of one expert
  int64_t cols() const { return shape.size() == 1 ? 1 : shape.back(); }
};

// Product of all dimensions.
int64_t NumElements(const std::vector<int64_t>& shape);

// "[3, 128]"
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace deltaserve
