#include "tests/worker/engine/fake_model.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

// Small enough that f32 holds every hash exactly.
constexpr int64_t kPrime = 65521;

int64_t Extend(int64_t hash, int32_t id) { return (hash * 31 + id + 1) % kPrime; }

// About 500 values, so that ties happen.
float LogitOf(int64_t hash, int64_t id) {
  uint64_t x = static_cast<uint64_t>(hash) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(id);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return static_cast<float>((x >> 32) % 500) * 0.02f - 5.0f;
}

class FakeModel final : public Model {
 public:
  FakeModel(const ModelConfig& config, const ShardPlan& plan) : config_(config), plan_(plan) {}

  const ModelConfig& config() const override { return config_; }
  const ShardPlan& plan() const override { return plan_; }
  size_t weight_bytes() const override { return 0; }

  KvCacheShape kv_shape(int64_t num_blocks) const override {
    return {.num_layers = 1, .num_blocks = num_blocks, .num_kv_heads = 1, .head_dim = 1};
  }

  RecurrentStateShape state_shape(int64_t num_states) const override {
    return {.num_layers = 1,
            .num_states = num_states,
            .conv_rows = 1,
            .conv_channels = 1,
            .num_value_heads = 1,
            .key_head_dim = 1,
            .value_head_dim = 1};
  }

  void Forward(const ForwardBatch& batch, ExecContext& context, TensorView logits) override {
    const RowBatch& rows = batch.rows;
    const TensorView scratch = context.arena.Allocate(DType::kI32, {rows.num_rows});
    int32_t* hashes = scratch.as<int32_t>();
    for (int64_t row = 0; row < rows.num_rows; ++row) {
      hashes[row] = static_cast<int32_t>(Push(rows, row, context));
    }
    for (int64_t i = 0; i < batch.num_scored; ++i) {
      const int32_t hash = hashes[batch.scored_rows.as<int32_t>()[i]];
      float* out = logits.Row(i).as<float>();
      for (int64_t local = 0; local < plan_.local().vocab_rows; ++local) {
        const int64_t id = plan_.local().vocab_begin + local;
        out[local] = id < config_.vocab_size ? LogitOf(hash, id) : 1e9f;
      }
    }
  }

 private:
  // Stores a row's token; the hash of the history that ends with it.
  static int64_t Push(const RowBatch& rows, int64_t row, ExecContext& context) {
    const int32_t sequence = rows.row_sequence.as<int32_t>()[row];
    const int32_t id = rows.ids.as<int32_t>()[row];
    const int32_t position = rows.positions.as<int32_t>()[row];
    const int32_t* table = rows.block_table.Row(rows.slot.as<int32_t>()[sequence]).as<int32_t>();
    float* cache = context.kv.keys(0).as<float>();
    const auto entry = [&](int64_t at) -> float& {
      return cache[table[at / kBlockTokens] * kBlockTokens + at % kBlockTokens];
    };
    entry(position) = static_cast<float>(id);
    float& state = context.state.recurrent(0).as<float>()[rows.state.as<int32_t>()[sequence]];
    state = static_cast<float>(Extend(static_cast<int64_t>(state), id));
    int64_t hash = 0;
    for (int64_t at = 0; at <= position; ++at) {
      hash = Extend(hash, static_cast<int32_t>(entry(at)));
    }
    DS_CHECK_EQ(hash, static_cast<int64_t>(state)) << "cache and state differ at " << position;
    return hash;
  }

  const ModelConfig config_;
  const ShardPlan plan_;
};

}  // namespace

ModelConfig FakeConfig(const FakeModelOptions& options) {
  ModelConfig config;
  config.model_type = "qwen3_5_text";
  config.vocab_size = options.vocab_size;
  config.hidden_size = 8;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 4;
  config.head_dim = 8;
  config.rotary_dim = 2;
  config.rope_theta = 1e4;
  config.rms_norm_eps = 1e-6;
  config.max_position_embeddings = options.max_context;
  config.layer_types = {LayerType::kLinearAttention, LayerType::kFullAttention};
  config.linear_num_key_heads = 4;
  config.linear_num_value_heads = 4;
  config.linear_key_head_dim = 8;
  config.linear_value_head_dim = 8;
  config.linear_conv_kernel_dim = 4;
  config.intermediate_size = 64;
  return config;
}

std::vector<float> FakeLogits(std::span<const int32_t> history, int64_t vocab_size) {
  int64_t hash = 0;
  for (const int32_t id : history) hash = Extend(hash, id);
  std::vector<float> logits;
  for (int64_t id = 0; id < vocab_size; ++id) logits.push_back(LogitOf(hash, id));
  return logits;
}

std::vector<int32_t> FakeGreedy(std::vector<int32_t> prompt, int64_t count, int64_t vocab_size) {
  const size_t begin = prompt.size();
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<float> logits = FakeLogits(prompt, vocab_size);
    const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
    prompt.push_back(static_cast<int32_t>(best - logits.begin()));
  }
  return std::vector<int32_t>(prompt.begin() + static_cast<ptrdiff_t>(begin), prompt.end());
}

absl::StatusOr<std::unique_ptr<Model>> CreateFakeModel(const FakeModelOptions& options,
                                                       int rank,
                                                       int size) {
  const ModelConfig config = FakeConfig(options);
  DS_ASSIGN_OR_RETURN(const ShardPlan plan, ShardPlan::Create(config, {.ranks = size}, rank));
  return std::make_unique<FakeModel>(config, plan);
}

}  // namespace deltaserve
