#pragma once

// The table of weights of each model family (spec 2): canonical names, stored names, shapes, splits
// and what random weights hold.
//
// Canonical names (i = layer) and logical shapes of the full model:
//
//   embed_tokens.weight                           [V, H]           kVocabulary
//   layers.i.input_layernorm.weight               [H]
//   layers.i.post_attention_layernorm.weight      [H]
//   norm.weight                                   [H]
//   lm_head.weight                                [V, H]           kVocabulary, optional
//
//   layers.i.linear_attn.in_proj_qkv.weight       [2Kd + Vd, H]    kOutput, segments {Kd, Kd, Vd}
//   layers.i.linear_attn.in_proj_z.weight         [Vd, H]          kOutput
//   layers.i.linear_attn.in_proj_{b,a}.weight     [Hv, H]          kOutput
//   layers.i.linear_attn.conv1d.weight            [2Kd + Vd, conv] kOutput, as in_proj_qkv
//   layers.i.linear_attn.{A_log,dt_bias}          [Hv]             kOutput
//   layers.i.linear_attn.norm.weight              [dv]
//   layers.i.linear_attn.out_proj.weight          [H, Vd]          kInput
//     (all kReplicated with --linear-attention=replicated)
//
//   layers.i.self_attn.q_proj.weight              [nh 2 hd, H]     kOutput, a head's q and gate
//   rows
//                                                                  together
//   layers.i.self_attn.{k,v}_proj.weight          [nkv hd, H]      kKvHeads
//   layers.i.self_attn.{q,k}_norm.weight          [hd]
//   layers.i.self_attn.o_proj.weight              [H, nh hd]       kInput
//
//   layers.i.mlp.gate_up_proj.weight              [2I, H]          kOutput, segments {I, I}
//   layers.i.mlp.down_proj.weight                 [H, I]           kInput
//   layers.i.mlp.gate.weight                      [E, H]
//   layers.i.mlp.experts.gate_up_proj             [E, 2Im, H]      kOutput {Im, Im}, or kExperts
//   layers.i.mlp.experts.down_proj                [E, H, Im]       kInput, or kExperts
//   layers.i.mlp.shared_expert.gate_up_proj.weight [2Is, H]        kOutput, segments {Is, Is}
//   layers.i.mlp.shared_expert.down_proj.weight   [H, Is]          kInput
//   layers.i.mlp.shared_expert_gate.weight        [1, H]
//
// Precision::kMayQuantize: lm_head, all *_proj but in_proj_{b,a}.

#include <vector>

#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// Whether routed experts are stored as one fused 3-D tensor or one tensor an expert and projection.
enum class ExpertForm { kFused, kPerExpert };

// Bytes of a rank's part of a weight: as releases store it, or in 8 bits with a f32 scale an
// output.
int64_t LocalBytes(const ShardPlan& plan, const WeightSpec& spec, Quantization quantization);

// Inputs of the widest product of a rank whose weight may be quantised.
int64_t QuantizedDepth(const ModelConfig& config, const ShardPlan& plan);

// As the family's BF16 releases store them: Qwen3.5 fused, Qwen3-Next per expert.
ExpertForm PublishedExpertForm(const ModelConfig& config);

// `experts`: the form that WeightSpec::stored describes; the other is its `alternative`, so a
// loader takes what the files hold. Random weights and the checkpoint maker use `stored`.
std::vector<WeightSpec> WeightTable(const ModelConfig& config,
                                    const ParallelOptions& options,
                                    ExpertForm experts);

// The same with PublishedExpertForm.
std::vector<WeightSpec> WeightTable(const ModelConfig& config, const ParallelOptions& options);

// The tensors that the table's `stored` names, each once, in the table's order, without those of
// optional specs that a config with a tied head does not store.
std::vector<StoredTensor> StoredTensors(const ModelConfig& config,
                                        const std::vector<WeightSpec>& table);

}  // namespace deltaserve
