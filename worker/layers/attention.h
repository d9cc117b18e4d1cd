#pragma once

// Gated full attention (spec 3.4) on this rank's heads.

#include <memory>
#include <string>

#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/layers/layer.h"
#include "worker/layers/weight_packer.h"

namespace deltaserve {

class AttentionLayer : public Layer {
 public:
  // prefix: "layers.3.self_attn."; kv_layer: index among full-attention layers.
  static absl::StatusOr<std::unique_ptr<Layer>> Create(WeightPacker& packer,
                                                       const ModelConfig& config,
                                                       const LocalSizes& local,
                                                       const std::string& prefix,
                                                       int64_t kv_layer);

  void Forward(const RowBatch& rows, TensorView x, ExecContext& context, TensorView out) override;
  bool output_is_partial() const override { return true; }

 private:
  AttentionLayer() = default;

  int64_t kv_layer_ = 0;
  int64_t num_heads_ = 0;
  int64_t num_kv_heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t rotary_dim_ = 0;
  float eps_ = 0;
  std::unique_ptr<LinearWeight> q_proj_, k_proj_, v_proj_, o_proj_;
  DeviceTensor q_norm_, k_norm_, inv_frequency_;
};

}  // namespace deltaserve
