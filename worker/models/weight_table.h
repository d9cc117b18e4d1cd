#pragma once

// The table of weights of each model family (spec 2): canonical names, stored names, shapes and
// splits.
//
// Canonical names (i = layer), all logical shapes of the full model:
//   embed_tokens.weight [V,H] kVocabulary             lm_head.weight [V,H] kVocabulary, optional
//   when tied norm.weight [H] layers.i.{input,post_attention}_layernorm.weight [H]
//   layers.i.linear_attn.in_proj_qkv.weight [2Kd+Vd,H] kOutput, segments {Kd,Kd,Vd}, granule a head
//   layers.i.linear_attn.in_proj_z.weight [Vd,H]      layers.i.linear_attn.in_proj_{b,a}.weight
//   [Hv,H] layers.i.linear_attn.conv1d.weight [Cd,kernel]    segments as in_proj_qkv
//   layers.i.linear_attn.{A_log,dt_bias} [Hv]         layers.i.linear_attn.norm.weight [dv]
//   layers.i.linear_attn.out_proj.weight [H,Vd] kInput
//   layers.i.self_attn.q_proj.weight [nh*2*hd,H]      layers.i.self_attn.{k,v}_proj.weight
//   [nkv*hd,H] kKvHeads layers.i.self_attn.{q,k}_norm.weight [hd] layers.i.self_attn.o_proj.weight
//   [H,nh*hd] kInput layers.i.mlp.gate_up_proj.weight [2I,H] segments {I,I}
//   layers.i.mlp.down_proj.weight [H,I] kInput layers.i.mlp.gate.weight [E,H]
//   layers.i.mlp.shared_expert_gate.weight [1,H] layers.i.mlp.experts.gate_up_proj [E,2Im,H]
//   layers.i.mlp.experts.down_proj [E,H,Im] layers.i.mlp.shared_expert.gate_up_proj.weight [2Is,H]
//   layers.i.mlp.shared_expert.down_proj.weight [H,Is]
// With linear_attention=replicated all linear_attn weights are kReplicated.

#include <vector>

#include "absl/status/statusor.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// Whether routed experts are stored as one fused 3-D tensor or one tensor an expert and projection.
enum class ExpertForm { kFused, kPerExpert };

std::vector<WeightSpec> WeightTable(const ModelConfig& config,
                                    const ParallelOptions& options,
                                    ExpertForm experts);

}  // namespace deltaserve
