#pragma once

// ShardPlan: all partition arithmetic, done once (spec 5). Formulas in the number of ranks; the one
// place that refuses an impossible degree, before any weight is read.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

enum class MoeMode { kTensor, kExpert };                   // --moe=tp|ep
enum class LinearAttentionMode { kSharded, kReplicated };  // --linear-attention=sharded|replicated

struct ParallelOptions {
  int ranks = 1;
  MoeMode moe = MoeMode::kTensor;
  LinearAttentionMode linear_attention = LinearAttentionMode::kSharded;
};

// What one rank holds. All counts are local; layers see only these.
struct LocalSizes {
  int64_t vocab_rows = 0;   // local rows of embed_tokens and lm_head, padding included
  int64_t vocab_begin = 0;  // id of the first
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t linear_num_key_heads = 0;
  int64_t linear_num_value_heads = 0;
  int64_t intermediate_size = 0;
  int64_t num_experts = 0;  // held here
  int64_t first_expert = 0;
  int64_t moe_intermediate_size = 0;  // per expert held here
  int64_t shared_expert_intermediate_size = 0;
};

// One run of bytes of one stored tensor and where it goes in the local weight.
struct ByteRange {
  int stored = 0;  // index into WeightSpec::stored
  int64_t source_offset = 0;
  int64_t destination_offset = 0;
  int64_t bytes = 0;
};

// A value; cheap to copy. Arithmetic only: opens nothing.
class ShardPlan {
 public:
  // INVALID_ARGUMENT: field, value, degree and the legal degrees, e.g. "linear_num_key_heads is 16:
  // 3 ranks cannot share it; use 1, 2, 4, 8 or 16 ranks", and a mode that allows the degree, where
  // one does.
  static absl::StatusOr<ShardPlan> Create(const ModelConfig& config,
                                          const ParallelOptions& options,
                                          int rank);

  // Every degree that Create takes for these modes, ascending.
  static std::vector<int> LegalDegrees(const ModelConfig& config, ParallelOptions options);

  const ParallelOptions& options() const { return options_; }
  int rank() const { return rank_; }
  const LocalSizes& local() const { return local_; }
  // Each KV head is held by this many ranks.
  int64_t kv_replicas() const { return kv_replicas_; }
  bool kv_heads_replicated() const { return kv_replicas_ > 1; }
  int64_t padded_vocab_size() const { return local_.vocab_rows * options_.ranks; }

  // Shape of this rank's part of `spec`.
  std::vector<int64_t> LocalShape(const WeightSpec& spec) const;

  // The byte ranges of spec.stored that make it, merged where contiguous, ascending by destination.
  // What no range covers is zero (rows past the vocabulary's end).
  std::vector<ByteRange> Ranges(const WeightSpec& spec, DType stored_dtype) const;

 private:
  // This rank's part of a weight, in the order in which it is held.
  struct Part;

  ShardPlan() = default;
  Part PartOf(const WeightSpec& spec) const;

  ParallelOptions options_;
  int rank_ = 0;
  int64_t kv_replicas_ = 1;
  LocalSizes local_;
};

// "1, 2, 4 or 8"
std::string DegreesText(const std::vector<int>& degrees);

}  // namespace deltaserve
