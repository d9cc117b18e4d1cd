#include "worker/layers/moe.h"

#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<Layer>> MoeLayer::Create(WeightPacker& packer,
                                                        const ModelConfig& config,
                                                        const LocalSizes& local,
                                                        const std::string& prefix) {
  std::unique_ptr<MoeLayer> layer(new MoeLayer());
  layer->top_k_ = config.num_experts_per_tok;
  layer->normalize_ = config.norm_topk_prob;
  layer->first_expert_ = local.first_expert;
  DS_ASSIGN_OR_RETURN(layer->gate_, packer.Linear(prefix + "gate.weight"));
  DS_ASSIGN_OR_RETURN(layer->experts_, packer.Experts(prefix + "experts.gate_up_proj",
                                                      prefix + "experts.down_proj"));
  DS_ASSIGN_OR_RETURN(layer->shared_expert_, MlpLayer::Create(packer, prefix + "shared_expert."));
  DS_ASSIGN_OR_RETURN(layer->shared_expert_gate_,
                      packer.Linear(prefix + "shared_expert_gate.weight"));
  return layer;
}

void MoeLayer::Forward(const RowBatch& rows, TensorView x, ExecContext& context, TensorView out) {
  Ops& ops = context.device.ops();
  Arena& arena = context.arena;
  ArenaScope scope(arena);
  const int64_t n = rows.num_rows;
  const DType act = context.device.numerics().activation;
  const TensorView logits = arena.Allocate(DType::kF32, {n, gate_->out_features()});
  const TensorView experts = arena.Allocate(DType::kI32, {n, top_k_});
  const TensorView weights = arena.Allocate(DType::kF32, {n, top_k_});
  const TensorView shared = arena.Allocate(act, {n, x.dim(1)});
  const TensorView shared_gate = arena.Allocate(act, {n, 1});
  ops.Linear({.x = x, .weight = gate_.get(), .out = logits}, arena);
  ops.RouteExperts(
      {.logits = logits, .normalize = normalize_, .experts = experts, .weights = weights});
  shared_expert_->Forward(rows, x, context, shared);
  ops.Linear({.x = x, .weight = shared_expert_gate_.get(), .out = shared_gate}, arena);
  ops.Experts({.x = x,
               .experts = experts,
               .weights = weights,
               .expert_weights = experts_.get(),
               .first_expert = first_expert_,
               .shared = shared,
               .shared_gate = shared_gate,
               .out = out},
              arena);
}

}  // namespace deltaserve
