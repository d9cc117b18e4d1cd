#include "worker/layers/attention.h"

#include <cmath>
#include <utility>
#include <vector>

#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

// theta^(-2j/rotary_dim), each step rounded to f32 as transformers does: at large positions the
// rounding of the frequency is visible in the angle.
std::vector<float> InverseFrequencies(double theta, int64_t rotary_dim) {
  std::vector<float> frequencies;
  for (int64_t j = 0; j < rotary_dim; j += 2) {
    const float exponent = static_cast<float>(j) / static_cast<float>(rotary_dim);
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    frequencies.push_back(1.0F / power);
  }
  return frequencies;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Layer>> AttentionLayer::Create(WeightPacker& packer,
                                                              const ModelConfig& config,
                                                              const LocalSizes& local,
                                                              const std::string& prefix,
                                                              int64_t kv_layer) {
  std::unique_ptr<AttentionLayer> layer(new AttentionLayer());
  layer->kv_layer_ = kv_layer;
  layer->num_heads_ = local.num_heads;
  layer->num_kv_heads_ = local.num_kv_heads;
  layer->head_dim_ = config.head_dim;
  layer->rotary_dim_ = config.rotary_dim;
  layer->eps_ = static_cast<float>(config.rms_norm_eps);
  DS_ASSIGN_OR_RETURN(layer->q_proj_, packer.Linear(prefix + "q_proj.weight"));
  DS_ASSIGN_OR_RETURN(layer->k_proj_, packer.Linear(prefix + "k_proj.weight"));
  DS_ASSIGN_OR_RETURN(layer->v_proj_, packer.Linear(prefix + "v_proj.weight"));
  DS_ASSIGN_OR_RETURN(layer->o_proj_, packer.Linear(prefix + "o_proj.weight"));
  DS_ASSIGN_OR_RETURN(layer->q_norm_, packer.ZeroCentredNorm(prefix + "q_norm.weight"));
  DS_ASSIGN_OR_RETURN(layer->k_norm_, packer.ZeroCentredNorm(prefix + "k_norm.weight"));
  DS_ASSIGN_OR_RETURN(layer->inv_frequency_,
                      packer.Upload(InverseFrequencies(config.rope_theta, config.rotary_dim)));
  return layer;
}

void AttentionLayer::Forward(const RowBatch& rows,
                             TensorView x,
                             ExecContext& context,
                             TensorView out) {
  Ops& ops = context.device.ops();
  Arena& arena = context.arena;
  ArenaScope scope(arena);
  const int64_t n = rows.num_rows;
  const DType act = context.device.numerics().activation;
  const TensorView qg = arena.Allocate(act, {n, num_heads_ * 2 * head_dim_});
  const TensorView k = arena.Allocate(act, {n, num_kv_heads_ * head_dim_});
  const TensorView v = arena.Allocate(act, {n, num_kv_heads_ * head_dim_});
  const TensorView q = arena.Allocate(act, {n, num_heads_, head_dim_});
  const TensorView mixed = arena.Allocate(act, {n, num_heads_ * head_dim_});
  ops.Linear({.x = x, .weight = q_proj_.get(), .out = qg}, arena);
  ops.Linear({.x = x, .weight = k_proj_.get(), .out = k}, arena);
  ops.Linear({.x = x, .weight = v_proj_.get(), .out = v}, arena);
  const TensorView qg_heads = qg.Reshape({n, num_heads_, 2 * head_dim_});
  ops.AttentionPrepare({.num_heads = num_heads_,
                        .num_kv_heads = num_kv_heads_,
                        .head_dim = head_dim_,
                        .rotary_dim = rotary_dim_,
                        .eps = eps_,
                        .rows = &rows,
                        .qg = qg_heads,
                        .k = k.Reshape({n, num_kv_heads_, head_dim_}),
                        .v = v.Reshape({n, num_kv_heads_, head_dim_}),
                        .q_norm = q_norm_.view,
                        .k_norm = k_norm_.view,
                        .inv_frequency = inv_frequency_.view,
                        .q_out = q,
                        .k_cache = context.kv.keys(kv_layer_),
                        .v_cache = context.kv.values(kv_layer_)});
  ops.Attention({.num_heads = num_heads_,
                 .num_kv_heads = num_kv_heads_,
                 .head_dim = head_dim_,
                 .rows = &rows,
                 .q = q,
                 .qg = qg_heads,
                 .k_cache = context.kv.keys(kv_layer_),
                 .v_cache = context.kv.values(kv_layer_),
                 .out = mixed},
                arena);
  ops.Linear({.x = mixed, .weight = o_proj_.get(), .out = out}, arena);
}

}  // namespace deltaserve
