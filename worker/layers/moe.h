#pragma once

// Mixture of experts with a shared expert (spec 3.7). Routing is computed on every rank from the
// same activations; routed and shared partial sums leave as one.

#include <memory>
#include <string>

#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/layers/layer.h"
#include "worker/layers/mlp.h"
#include "worker/layers/weight_packer.h"

namespace deltaserve {

class MoeLayer : public Layer {
 public:
  // prefix: "layers.0.mlp."
  static absl::StatusOr<std::unique_ptr<Layer>> Create(WeightPacker& packer,
                                                       const ModelConfig& config,
                                                       const LocalSizes& local,
                                                       const std::string& prefix);

  void Forward(const RowBatch& rows, TensorView x, ExecContext& context, TensorView out) override;
  bool output_is_partial() const override { return true; }

 private:
  MoeLayer() = default;

  int64_t top_k_ = 0;
  bool normalize_ = true;
  int64_t first_expert_ = 0;
  std::unique_ptr<LinearWeight> gate_, shared_expert_gate_;
  std::unique_ptr<ExpertWeights> experts_;
  std::unique_ptr<MlpLayer> shared_expert_;
};

}  // namespace deltaserve
