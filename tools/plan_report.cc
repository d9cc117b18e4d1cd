#include "tools/plan_report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/ops.h"
#include "worker/cache/block_pool.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/recurrent_state.h"
#include "worker/checkpoint/weight_table.h"

namespace deltaserve {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

std::string GroupOf(const WeightSpec& spec) {
  if (spec.split == Split::kVocabulary) {
    return spec.optional ? "head" : "embedding";
  }
  if (absl::StrContains(spec.name, ".linear_attn.")) return "linear attention";
  if (absl::StrContains(spec.name, ".self_attn.")) return "full attention";
  if (absl::StrContains(spec.name, ".mlp.experts.")) return "routed experts";
  if (absl::StrContains(spec.name, ".mlp.")) return "dense, router and shared expert";
  return "norms";
}

void AddWeight(const ShardPlan& plan,
               const WeightSpec& spec,
               Quantization quantization,
               bool stored,
               WeightGroup& group) {
  const auto size = static_cast<int64_t>(DTypeSize(spec.stored.front().dtype));
  const int64_t count = stored ? NumElements(spec.shape) : 0;
  group.num_parameters += count;
  group.bytes += count * size;
  group.bytes_a_rank += LocalBytes(plan, spec, quantization);
}

// A tied head is stored with the embedding; on a CPU a rank packs it from there, on a GPU the
// embedding serves as it lies.
void AddWeights(const ShardPlan& plan, PlanReport& report) {
  for (const WeightSpec& spec : WeightTable(report.config, report.options.parallel)) {
    const bool stored = !(spec.optional && report.config.tie_word_embeddings);
    if (!stored && report.options.device == "cuda") continue;
    const std::string name = GroupOf(spec);
    auto group = std::find_if(report.weights.begin(), report.weights.end(),
                              [&](const WeightGroup& known) { return known.name == name; });
    if (group == report.weights.end()) {
      report.weights.push_back({.name = name});
      group = report.weights.end() - 1;
    }
    AddWeight(plan, spec, report.options.quantization, stored, *group);
    AddWeight(plan, spec, report.options.quantization, stored, report.total);
  }
  report.total.name = "all";
}

void AddMemory(PlanReport& report) {
  const ModelConfig& config = report.config;
  const LocalSizes& local = report.local;
  const KvCacheShape kv = {.num_layers = config.num_layers_of(LayerType::kFullAttention),
                           .num_blocks = 1,
                           .num_kv_heads = local.num_kv_heads,
                           .head_dim = config.head_dim,
                           .dtype = report.options.numerics.kv};
  const auto block_bytes = static_cast<int64_t>(kv.bytes_per_block());
  report.kv_bytes_a_token = block_bytes / kBlockTokens;
  report.kv_blocks = block_bytes == 0 ? 0 : report.options.kv_memory / block_bytes;
  RecurrentStateShape state = {
      .num_layers = config.num_layers_of(LayerType::kLinearAttention),
      .num_states = 1,
      .conv_rows = config.linear_conv_kernel_dim - 1,
      .conv_channels = 2 * local.linear_num_key_heads * config.linear_key_head_dim +
                       local.linear_num_value_heads * config.linear_value_head_dim,
      .num_value_heads = local.linear_num_value_heads,
      .key_head_dim = config.linear_key_head_dim,
      .value_head_dim = config.linear_value_head_dim};
  const auto both = static_cast<int64_t>(state.bytes_per_state());
  state.conv_rows = 0;
  report.recurrent_bytes_a_sequence = static_cast<int64_t>(state.bytes_per_state());
  report.conv_bytes_a_sequence = both - report.recurrent_bytes_a_sequence;

  std::vector<int64_t> contexts = report.options.contexts;
  contexts.push_back(config.max_position_embeddings);
  std::sort(contexts.begin(), contexts.end());
  contexts.erase(std::unique(contexts.begin(), contexts.end()), contexts.end());
  for (const int64_t context : contexts) {
    if (context > config.max_position_embeddings) continue;
    const int64_t blocks = NumBlocks(context);
    report.kv_concurrency.push_back({context, report.kv_blocks / blocks});
  }
}

// As Qwen35Model::Forward and the sampler do them.
void AddCollectives(PlanReport& report) {
  const ModelConfig& config = report.config;
  const int64_t hidden_bytes =
      config.hidden_size * static_cast<int64_t>(DTypeSize(report.options.numerics.reduction));
  const bool sharded = report.options.parallel.linear_attention == LinearAttentionMode::kSharded;
  const int64_t full = config.num_layers_of(LayerType::kFullAttention);
  const int64_t linear = config.num_layers_of(LayerType::kLinearAttention);
  auto& list = report.collectives;
  list.push_back({.what = "embedding",
                  .operation = "all-reduce",
                  .times_a_step = 1,
                  .bytes_a_row = hidden_bytes});
  list.push_back({.what = "linear attention output",
                  .operation = "all-reduce",
                  .times_a_step = sharded ? linear : 0,
                  .bytes_a_row = hidden_bytes});
  list.push_back({.what = "full attention output",
                  .operation = "all-reduce",
                  .times_a_step = full,
                  .bytes_a_row = hidden_bytes});
  list.push_back({.what = config.is_moe() ? "routed and shared experts" : "feed-forward output",
                  .operation = "all-reduce",
                  .times_a_step = full + linear,
                  .bytes_a_row = hidden_bytes});
  list.push_back({.what = "best token (greedy and pure temperature)",
                  .operation = "all-gather",
                  .times_a_step = 1,
                  .bytes_a_row = 2 * kFloatBytes,
                  .scored_rows_only = true});
  list.push_back({.what = "logits (top-k, top-p, min-p, logprobs)",
                  .operation = "gather to rank 0",
                  .times_a_step = 1,
                  .bytes_a_row = report.local.vocab_rows * kFloatBytes,
                  .scored_rows_only = true});
}

}  // namespace

absl::StatusOr<PlanReport> MakePlanReport(const ModelConfig& config,
                                          const PlanReportOptions& options) {
  DS_ASSIGN_OR_RETURN(const ShardPlan plan, ShardPlan::Create(config, options.parallel, 0));
  PlanReport report;
  report.config = config;
  report.options = options;
  report.local = plan.local();
  report.kv_replicas = plan.kv_replicas();
  report.padded_vocab_size = plan.padded_vocab_size();
  AddWeights(plan, report);
  AddMemory(report);
  AddCollectives(report);
  return report;
}

}  // namespace deltaserve
