#include "worker/layers/gated_delta_net.h"

#include <utility>

#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<Layer>> GatedDeltaNetLayer::Create(WeightPacker& packer,
                                                                  const ModelConfig& config,
                                                                  const LocalSizes& local,
                                                                  const std::string& prefix,
                                                                  int64_t state_layer,
                                                                  bool partial) {
  std::unique_ptr<GatedDeltaNetLayer> layer(new GatedDeltaNetLayer());
  layer->state_layer_ = state_layer;
  layer->partial_ = partial;
  layer->num_key_heads_ = local.linear_num_key_heads;
  layer->num_value_heads_ = local.linear_num_value_heads;
  layer->key_head_dim_ = config.linear_key_head_dim;
  layer->value_head_dim_ = config.linear_value_head_dim;
  layer->eps_ = static_cast<float>(config.rms_norm_eps);
  DS_ASSIGN_OR_RETURN(layer->in_proj_qkv_, packer.Linear(prefix + "in_proj_qkv.weight"));
  DS_ASSIGN_OR_RETURN(layer->in_proj_z_, packer.Linear(prefix + "in_proj_z.weight"));
  DS_ASSIGN_OR_RETURN(layer->in_proj_b_, packer.Linear(prefix + "in_proj_b.weight"));
  DS_ASSIGN_OR_RETURN(layer->in_proj_a_, packer.Linear(prefix + "in_proj_a.weight"));
  DS_ASSIGN_OR_RETURN(layer->out_proj_, packer.Linear(prefix + "out_proj.weight"));
  DS_ASSIGN_OR_RETURN(layer->conv_weight_, packer.F32(prefix + "conv1d.weight"));
  DS_ASSIGN_OR_RETURN(layer->a_log_, packer.F32(prefix + "A_log"));
  DS_ASSIGN_OR_RETURN(layer->dt_bias_, packer.F32(prefix + "dt_bias"));
  DS_ASSIGN_OR_RETURN(layer->norm_weight_, packer.F32(prefix + "norm.weight"));
  layer->conv_weight_.view =
      layer->conv_weight_.view.Reshape({2 * layer->num_key_heads_ * layer->key_head_dim_ +
                                            layer->num_value_heads_ * layer->value_head_dim_,
                                        config.linear_conv_kernel_dim});
  return layer;
}

void GatedDeltaNetLayer::Forward(const RowBatch& rows,
                                 TensorView x,
                                 ExecContext& context,
                                 TensorView out) {
  Ops& ops = context.device.ops();
  Arena& arena = context.arena;
  ArenaScope scope(arena);
  const int64_t n = rows.num_rows;
  const int64_t value_dim = num_value_heads_ * value_head_dim_;
  const DType act = context.device.numerics().activation;
  const TensorView qkv = arena.Allocate(act, {n, conv_weight_.view.dim(0)});
  const TensorView z = arena.Allocate(act, {n, value_dim});
  const TensorView b = arena.Allocate(act, {n, num_value_heads_});
  const TensorView a = arena.Allocate(act, {n, num_value_heads_});
  const TensorView mixed = arena.Allocate(act, {n, value_dim});
  ops.Linear({.x = x, .weight = in_proj_qkv_.get(), .out = qkv}, arena);
  ops.Linear({.x = x, .weight = in_proj_z_.get(), .out = z}, arena);
  ops.Linear({.x = x, .weight = in_proj_b_.get(), .out = b}, arena);
  ops.Linear({.x = x, .weight = in_proj_a_.get(), .out = a}, arena);
  ops.GatedDeltaNet({.num_key_heads = num_key_heads_,
                     .num_value_heads = num_value_heads_,
                     .key_head_dim = key_head_dim_,
                     .value_head_dim = value_head_dim_,
                     .eps = eps_,
                     .rows = &rows,
                     .qkv = qkv,
                     .z = z,
                     .b = b,
                     .a = a,
                     .conv_weight = conv_weight_.view,
                     .a_log = a_log_.view,
                     .dt_bias = dt_bias_.view,
                     .norm_weight = norm_weight_.view,
                     .conv_state = context.state.conv(state_layer_),
                     .recurrent_state = context.state.recurrent(state_layer_),
                     .out = mixed},
                    arena);
  ops.Linear({.x = mixed, .weight = out_proj_.get(), .out = out}, arena);
}

}  // namespace deltaserve
