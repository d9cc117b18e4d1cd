#include "tools/bench/step_cost.h"

#include <cmath>

#include "absl/strings/match.h"
#include "kernels/ops.h"
#include "worker/checkpoint/weight_table.h"
#include "worker/models/kept_shapes.h"

namespace deltaserve::bench {
namespace {

Cost WeightCost(const ModelConfig& config,
                const ShardPlan& plan,
                const WeightSpec& spec,
                Quantization quantization,
                int64_t rows,
                int64_t scored) {
  const auto held = static_cast<double>(NumElements(plan.LocalShape(spec)));
  const auto bytes = static_cast<double>(LocalBytes(plan, spec, quantization));
  const auto n = static_cast<double>(rows);
  if (spec.split == Split::kVocabulary) {
    // The embedding's rows are few; a tied head is packed from it.
    const bool is_head = spec.optional;
    if (!is_head || scored == 0) return {};
    return {.bytes = bytes, .flops = 2 * held * static_cast<double>(scored)};
  }
  if (spec.shape.size() == 3) {
    const double share =
        static_cast<double>(config.num_experts_per_tok) / static_cast<double>(config.num_experts);
    return {.bytes = bytes * (1 - std::pow(1 - share, n)), .flops = 2 * held * share * n};
  }
  // Vectors and the convolution are held as f32.
  const double as_floats = held * sizeof(float);
  if (spec.shape.size() == 1) return {.bytes = as_floats};
  if (absl::EndsWith(spec.name, ".conv1d.weight")) {
    return {.bytes = as_floats, .flops = 2 * held * n};
  }
  return {.bytes = bytes, .flops = 2 * held * n};
}

Cost SequenceCost(const ModelConfig& config,
                  const LocalSizes& local,
                  const Numerics& numerics,
                  const StepRows& sequence) {
  const auto linear = static_cast<double>(config.num_layers_of(LayerType::kLinearAttention));
  const auto full = static_cast<double>(config.num_layers_of(LayerType::kFullAttention));
  const auto state = static_cast<double>(StateShapeOf(config, local, 1).bytes_per_state());
  const auto token =
      static_cast<double>(KvShapeOf(config, local, numerics, 1).bytes_per_block()) / kBlockTokens;
  return {
      .bytes = 2 * state + token * static_cast<double>(sequence.first + sequence.rows),
      .flops =
          linear * DeltaRuleFlops(sequence.rows, local.linear_num_value_heads,
                                  config.linear_key_head_dim, config.linear_value_head_dim) +
          full * AttentionFlops(sequence.rows, sequence.first, local.num_heads, config.head_dim)};
}

}  // namespace

Cost StepCost(const ModelConfig& config,
              const ShardPlan& plan,
              const Numerics& numerics,
              Quantization quantization,
              const std::vector<StepRows>& sequences,
              int64_t scored) {
  Cost cost;
  int64_t rows = 0;
  for (const StepRows& sequence : sequences) {
    rows += sequence.rows;
    cost += SequenceCost(config, plan.local(), numerics, sequence);
  }
  for (const WeightSpec& spec : WeightTable(config, plan.options())) {
    cost += WeightCost(config, plan, spec, quantization, rows, scored);
  }
  return cost;
}

}  // namespace deltaserve::bench
