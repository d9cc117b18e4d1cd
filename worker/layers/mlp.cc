#include "worker/layers/mlp.h"

#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<MlpLayer>> MlpLayer::Create(WeightPacker& packer,
                                                           const std::string& prefix) {
  std::unique_ptr<MlpLayer> layer(new MlpLayer());
  DS_ASSIGN_OR_RETURN(layer->gate_up_proj_, packer.Linear(prefix + "gate_up_proj.weight"));
  DS_ASSIGN_OR_RETURN(layer->down_proj_, packer.Linear(prefix + "down_proj.weight"));
  return layer;
}

void MlpLayer::Forward(const RowBatch& rows, TensorView x, ExecContext& context, TensorView out) {
  Ops& ops = context.device.ops();
  ArenaScope scope(context.arena);
  const int64_t width = down_proj_->in_features();
  const DType act = context.device.numerics().activation;
  const TensorView gate_up = context.arena.Allocate(act, {rows.num_rows, 2 * width});
  const TensorView hidden = context.arena.Allocate(act, {rows.num_rows, width});
  ops.Linear({.x = x, .weight = gate_up_proj_.get(), .out = gate_up}, context.arena);
  ops.SiluMul({.gate_up = gate_up, .out = hidden});
  ops.Linear({.x = hidden, .weight = down_proj_.get(), .out = out}, context.arena);
}

}  // namespace deltaserve
