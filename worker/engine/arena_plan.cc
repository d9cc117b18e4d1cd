#include "worker/engine/arena_plan.h"

#include <algorithm>

#include "kernels/tensor/dtype.h"
#include "worker/engine/sampler.h"

namespace deltaserve {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

// A layer whose tensors take `row` bytes a row, beside which an op runs. Of a slot it has a row
// that decodes or a chunk of a prompt, whichever takes more; and it has at least one chunk.
ArenaUse Layer(int64_t row, const OpScratch& op) {
  const int64_t decode = row + op.per_decode_row;
  return {.fixed = op.fixed + (op.per_chunk > decode ? 0 : op.per_chunk),
          .per_slot = std::max(decode, op.per_chunk),
          .per_row = row + op.per_chunk_row};
}

// As MoeLayer: the shared expert is done before the others begin.
ArenaUse MoeUse(
    const ModelConfig& config, const LocalSizes& local, int64_t row, int64_t act, OpScratch op) {
  const int64_t shared = 3 * local.shared_expert_intermediate_size * act;
  op.per_decode_row = std::max(op.per_decode_row, shared);
  op.per_chunk_row = std::max(op.per_chunk_row, shared);
  row += config.num_experts * kFloatBytes + (config.hidden_size + 1) * act +
         config.num_experts_per_tok * (kFloatBytes + static_cast<int64_t>(sizeof(int32_t)));
  return Layer(row, op);
}

// As Sampler does it on this rank: whole rows a block at a time, which rules copy.
ArenaUse GatherUse(const ShardPlan& plan, const MemoryNeeds& needs, int64_t slots) {
  const int64_t mine = plan.local().vocab_rows * kFloatBytes;
  if (plan.rank() != 0) return {.fixed = Sampler::kGatherRows * mine};
  const int64_t ranks = plan.options().ranks;
  const int64_t whole = ranks * mine;
  const int64_t row = mine + (ranks > 1 ? 2 * whole : 0) + needs.per_sampled_row;
  const int64_t sampled = std::min(Sampler::kGatherRows, slots) * (row + whole);
  return {.fixed = std::max(sampled, Sampler::kGatherRows * row)};
}

}  // namespace

MemoryNeeds NeedsOf(const ModelConfig& config,
                    const ShardPlan& plan,
                    Device& device,
                    int64_t slots) {
  const LocalSizes& local = plan.local();
  return device.ops().Memory(
      {.num_heads = local.num_heads,
       .num_kv_heads = local.num_kv_heads,
       .conv_channels = 2 * local.linear_num_key_heads * config.linear_key_head_dim +
                        local.linear_num_value_heads * config.linear_value_head_dim,
       .num_value_heads = local.linear_num_value_heads,
       .num_experts = local.num_experts,
       .top_k = config.num_experts_per_tok,
       .hidden = config.hidden_size,
       .expert_width = local.moe_intermediate_size,
       .vocab_rows = plan.padded_vocab_size(),
       .decode_rows = slots});
}

std::vector<ArenaUse> PlanArena(const ModelConfig& config,
                                const ShardPlan& plan,
                                const Numerics& numerics,
                                const MemoryNeeds& needs,
                                int64_t slots) {
  const LocalSizes& local = plan.local();
  const auto act = static_cast<int64_t>(DTypeSize(numerics.activation));
  const int64_t stream = config.hidden_size * (kFloatBytes + act);  // the residual and its norm
  std::vector<ArenaUse> uses;
  if (config.num_layers_of(LayerType::kFullAttention) > 0) {
    // q and its gate, k, v, q rotated, what is mixed.
    const int64_t heads = 4 * local.num_heads + 2 * local.num_kv_heads;
    uses.push_back(Layer(stream + heads * config.head_dim * act, needs.attention));
  }
  if (config.num_layers_of(LayerType::kLinearAttention) > 0) {
    const int64_t keys = local.linear_num_key_heads * config.linear_key_head_dim;
    const int64_t values = local.linear_num_value_heads * config.linear_value_head_dim;
    // q, k and v, z, what is mixed, b and a.
    const int64_t columns = 2 * keys + 3 * values + 2 * local.linear_num_value_heads;
    uses.push_back(Layer(stream + columns * act, needs.gated_delta_net));
  }
  if (config.is_moe()) {
    uses.push_back(MoeUse(config, local, stream, act, needs.experts));
  } else {
    // Gate, up and their product.
    uses.push_back(Layer(stream + 3 * local.intermediate_size * act, {}));
  }
  uses.push_back({.per_slot = local.vocab_rows * kFloatBytes});
  uses.push_back(GatherUse(plan, needs, slots));
  return uses;
}

}  // namespace deltaserve
