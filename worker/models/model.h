#pragma once

// Model: one rank's shard of a Qwen3.5-family model and its forward pass.

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/recurrent_state.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/layers/layer.h"

namespace deltaserve {

// One step: its rows and which of them are scored.
struct ForwardBatch {
  RowBatch rows;
  int64_t num_scored = 0;
  TensorView scored_rows;  // i32 [num_scored], ascending
};

// Engine thread. Every rank calls Forward with the same batch.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const ShardPlan& plan() const = 0;

  // Shapes of what this rank keeps between steps, for `num_blocks` and `num_states`.
  virtual KvCacheShape kv_shape(int64_t num_blocks) const = 0;
  virtual RecurrentStateShape state_shape(int64_t num_states) const = 0;

  // Bytes of weights held by this rank.
  virtual size_t weight_bytes() const = 0;

  // logits: f32 [num_scored, plan().local().vocab_rows], this rank's part of the vocabulary.
  virtual void Forward(const ForwardBatch& batch, ExecContext& context, TensorView logits) = 0;
};

// Loads all weights and packs them. Of this rank alone: nothing here waits for another.
absl::StatusOr<std::unique_ptr<Model>> CreateModel(const ModelConfig& config,
                                                   const ShardPlan& plan,
                                                   Device& device,
                                                   WeightLoader& loader);

}  // namespace deltaserve
