#pragma once

// Gated DeltaNet, the linear attention of the family (spec 3.5), on this rank's heads.

#include <memory>
#include <string>

#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/layers/layer.h"
#include "worker/layers/weight_packer.h"

namespace deltaserve {

class GatedDeltaNetLayer : public Layer {
 public:
  // prefix: "layers.0.linear_attn."; state_layer: index among linear-attention layers; `partial`
  // false where every rank holds all heads (--linear-attention=replicated).
  static absl::StatusOr<std::unique_ptr<Layer>> Create(WeightPacker& packer,
                                                       const ModelConfig& config,
                                                       const LocalSizes& local,
                                                       const std::string& prefix,
                                                       int64_t state_layer,
                                                       bool partial);

  void Forward(const RowBatch& rows, TensorView x, ExecContext& context, TensorView out) override;
  bool output_is_partial() const override { return partial_; }

 private:
  GatedDeltaNetLayer() = default;

  int64_t state_layer_ = 0;
  bool partial_ = true;
  int64_t num_key_heads_ = 0;
  int64_t num_value_heads_ = 0;
  int64_t key_head_dim_ = 0;
  int64_t value_head_dim_ = 0;
  float eps_ = 0;
  std::unique_ptr<LinearWeight> in_proj_qkv_, in_proj_z_, in_proj_b_, in_proj_a_, out_proj_;
  DeviceTensor conv_weight_, a_log_, dt_bias_, norm_weight_;
};

}  // namespace deltaserve
