#pragma once

// The forward pass of Qwen3.5 and Qwen3-Next, dense and MoE, on one rank's shard (spec 0.3). After
// loading, the families are one computation.

#include <memory>
#include <vector>

#include "worker/layers/layer.h"
#include "worker/layers/weight_packer.h"
#include "worker/models/model.h"

namespace deltaserve {

class Qwen35Model : public Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> Create(const ModelConfig& config,
                                                       const ShardPlan& plan,
                                                       Device& device,
                                                       WeightLoader& loader);

  const ModelConfig& config() const override { return config_; }
  const ShardPlan& plan() const override { return plan_; }
  KvCacheShape kv_shape(int64_t num_blocks) const override;
  RecurrentStateShape state_shape(int64_t num_states) const override;
  size_t weight_bytes() const override { return weight_bytes_; }
  void Forward(const ForwardBatch& batch, ExecContext& context, TensorView logits) override;

 private:
  struct DecoderLayer {
    DeviceTensor input_norm, post_attention_norm;
    std::unique_ptr<Layer> mixer, feed_forward;
  };

  Qwen35Model(const ModelConfig& config, const ShardPlan& plan, const Numerics& numerics)
      : config_(config), plan_(plan), numerics_(numerics) {}

  absl::Status LoadEmbeddings(WeightPacker& packer);
  absl::StatusOr<DecoderLayer> LoadLayer(WeightPacker& packer, int64_t index);
  // residual += layer(normed), summed over ranks where partial; normed = norm of that.
  void Apply(Layer& layer,
             const RowBatch& rows,
             TensorView residual,
             TensorView norm,
             TensorView normed,
             ExecContext& context);

  ModelConfig config_;
  ShardPlan plan_;
  Numerics numerics_;  // of the device
  size_t weight_bytes_ = 0;
  DeviceTensor embed_tokens_, final_norm_;
  std::unique_ptr<LinearWeight> lm_head_;
  std::vector<DecoderLayer> layers_;
};

}  // namespace deltaserve
