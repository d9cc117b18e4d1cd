#include "worker/models/qwen3_5.h"

#include <string>
#include <utility>

#include "kernels/base/status_macros.h"
#include "worker/checkpoint/weight_table.h"
#include "worker/layers/attention.h"
#include "worker/layers/gated_delta_net.h"
#include "worker/layers/mlp.h"
#include "worker/layers/moe.h"
#include "worker/models/kept_shapes.h"

namespace deltaserve {
namespace {

int64_t CountBefore(const ModelConfig& config, int64_t index, LayerType type) {
  int64_t count = 0;
  for (int64_t i = 0; i < index; ++i) {
    if (config.layer_types[static_cast<size_t>(i)] == type) ++count;
  }
  return count;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Qwen35Model::Create(const ModelConfig& config,
                                                           const ShardPlan& plan,
                                                           Device& device,
                                                           WeightLoader& loader) {
  DS_RETURN_IF_ERROR(device.ops().Supports({.head_dim = config.head_dim,
                                            .rotary_dim = config.rotary_dim,
                                            .linear_key_head_dim = config.linear_key_head_dim,
                                            .linear_value_head_dim = config.linear_value_head_dim,
                                            .linear_conv_kernel_dim = config.linear_conv_kernel_dim,
                                            .quantized_depth = QuantizedDepth(config, plan),
                                            .vocab_size = config.vocab_size,
                                            .hidden_size = config.hidden_size,
                                            .num_experts = config.num_experts,
                                            .top_k = config.num_experts_per_tok,
                                            .expert_width = plan.local().moe_intermediate_size}));
  DS_RETURN_IF_ERROR(loader.LoadAll());
  std::unique_ptr<Qwen35Model> model(new Qwen35Model(config, plan, device.numerics()));
  WeightPacker packer(loader, device);
  DS_RETURN_IF_ERROR(model->LoadEmbeddings(packer));
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    DS_ASSIGN_OR_RETURN(DecoderLayer layer, model->LoadLayer(packer, i));
    model->layers_.push_back(std::move(layer));
  }
  model->weight_bytes_ = packer.bytes();
  return model;
}

absl::Status Qwen35Model::LoadEmbeddings(WeightPacker& packer) {
  DS_ASSIGN_OR_RETURN(embed_tokens_, packer.Table("embed_tokens.weight"));
  DS_ASSIGN_OR_RETURN(final_norm_, packer.ZeroCentredNorm("norm.weight"));
  if (packer.Has("lm_head.weight")) {
    DS_ASSIGN_OR_RETURN(lm_head_, packer.Linear("lm_head.weight"));
    return absl::OkStatus();
  }
  DS_ASSIGN_OR_RETURN(lm_head_, packer.TiedHead(embed_tokens_));
  return absl::OkStatus();
}

absl::StatusOr<Qwen35Model::DecoderLayer> Qwen35Model::LoadLayer(WeightPacker& packer,
                                                                 int64_t index) {
  const std::string prefix = "layers." + std::to_string(index) + ".";
  const LayerType type = config_.layer_types[static_cast<size_t>(index)];
  const int64_t of_type = CountBefore(config_, index, type);
  const LocalSizes& local = plan_.local();
  DecoderLayer layer;
  DS_ASSIGN_OR_RETURN(layer.input_norm, packer.ZeroCentredNorm(prefix + "input_layernorm.weight"));
  DS_ASSIGN_OR_RETURN(layer.post_attention_norm,
                      packer.ZeroCentredNorm(prefix + "post_attention_layernorm.weight"));
  if (type == LayerType::kFullAttention) {
    DS_ASSIGN_OR_RETURN(layer.mixer, AttentionLayer::Create(packer, config_, local,
                                                            prefix + "self_attn.", of_type));
  } else {
    const bool partial = plan_.options().linear_attention == LinearAttentionMode::kSharded;
    DS_ASSIGN_OR_RETURN(layer.mixer,
                        GatedDeltaNetLayer::Create(packer, config_, local, prefix + "linear_attn.",
                                                   of_type, partial));
  }
  if (config_.is_moe()) {
    DS_ASSIGN_OR_RETURN(layer.feed_forward,
                        MoeLayer::Create(packer, config_, local, prefix + "mlp."));
  } else {
    DS_ASSIGN_OR_RETURN(layer.feed_forward, MlpLayer::Create(packer, prefix + "mlp."));
  }
  return layer;
}

KvCacheShape Qwen35Model::kv_shape(int64_t num_blocks) const {
  return KvShapeOf(config_, plan_.local(), numerics_, num_blocks);
}

RecurrentStateShape Qwen35Model::state_shape(int64_t num_states) const {
  return StateShapeOf(config_, plan_.local(), num_states);
}

void Qwen35Model::Apply(Layer& layer,
                        const RowBatch& rows,
                        TensorView residual,
                        TensorView norm,
                        TensorView normed,
                        ExecContext& context) {
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  const TensorView output = context.exchange.Rows(0, rows.num_rows);
  layer.Forward(rows, normed, context, output);
  if (layer.output_is_partial()) {
    context.comm.ReduceAddNorm(
        {.partial = output, .residual = residual, .weight = norm, .eps = eps, .out = normed});
  } else {
    context.device.ops().AddRmsNorm(
        {.delta = output, .residual = residual, .weight = norm, .eps = eps, .out = normed});
  }
}

void Qwen35Model::Forward(const ForwardBatch& batch, ExecContext& context, TensorView logits) {
  const RowBatch& rows = batch.rows;
  Ops& ops = context.device.ops();
  ArenaScope scope(context.arena);
  const int64_t hidden = config_.hidden_size;
  const TensorView residual = context.arena.Allocate(DType::kF32, {rows.num_rows, hidden});
  const TensorView normed = context.arena.Allocate(numerics_.activation, {rows.num_rows, hidden});

  const TensorView embedded = context.exchange.Rows(0, rows.num_rows);
  ops.Embed({.ids = rows.ids,
             .table = embed_tokens_.view,
             .first_row = plan_.local().vocab_begin,
             .out = embedded});
  context.device.Zero(residual);
  context.comm.ReduceAddNorm({.partial = embedded,
                              .residual = residual,
                              .weight = layers_.front().input_norm.view,
                              .eps = static_cast<float>(config_.rms_norm_eps),
                              .out = normed});
  for (size_t i = 0; i < layers_.size(); ++i) {
    DecoderLayer& layer = layers_[i];
    const TensorView next_norm =
        i + 1 < layers_.size() ? layers_[i + 1].input_norm.view : final_norm_.view;
    Apply(*layer.mixer, rows, residual, layer.post_attention_norm.view, normed, context);
    Apply(*layer.feed_forward, rows, residual, next_norm, normed, context);
  }
  if (batch.num_scored == 0) return;
  const TensorView scored =
      context.arena.Allocate(numerics_.activation, {batch.num_scored, hidden});
  ops.GatherRows({.x = normed, .rows = batch.scored_rows, .out = scored});
  ops.Linear({.x = scored, .weight = lm_head_.get(), .out = logits}, context.arena);
}

absl::StatusOr<std::unique_ptr<Model>> CreateModel(const ModelConfig& config,
                                                   const ShardPlan& plan,
                                                   Device& device,
                                                   WeightLoader& loader) {
  return Qwen35Model::Create(config, plan, device, loader);
}

}  // namespace deltaserve
