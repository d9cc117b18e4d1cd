#pragma once

// Dense feed-forward: down(silu(gate(x)) * up(x)) (spec 3.6), on this rank's part of the width.

#include <memory>
#include <string>

#include "worker/layers/layer.h"
#include "worker/layers/weight_packer.h"

namespace deltaserve {

// Also the shared expert of MoeLayer.
class MlpLayer : public Layer {
 public:
  // prefix: "layers.0.mlp." or "layers.0.mlp.shared_expert."
  static absl::StatusOr<std::unique_ptr<MlpLayer>> Create(WeightPacker& packer,
                                                          const std::string& prefix);

  void Forward(const RowBatch& rows, TensorView x, ExecContext& context, TensorView out) override;
  bool output_is_partial() const override { return true; }

 private:
  MlpLayer() = default;

  std::unique_ptr<LinearWeight> gate_up_proj_, down_proj_;
};

}  // namespace deltaserve
