#pragma once

// ModelConfig: the full-model numbers of config.json, validated; knows nothing of ranks (spec 1).

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaserve {

enum class LayerType { kLinearAttention, kFullAttention };

// How a checkpoint stores what is otherwise one architecture.
enum class ModelFamily {
  kQwen35,     // qwen3_5, qwen3_5_text: dense
  kQwen35Moe,  // qwen3_5_moe, qwen3_5_moe_text
  kQwen3Next,  // qwen3_next: fused group-major projections
};

// Field names are those of the checkpoint. A value; immutable once parsed.
struct ModelConfig {
  ModelFamily family = ModelFamily::kQwen35;
  std::string model_type;  // as read, of the text config

  int64_t vocab_size = 0;  // rows of embed_tokens; real ids may be fewer
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;  // int(head_dim * partial_rotary_factor)
  double rope_theta = 0;
  double rms_norm_eps = 0;
  int64_t max_position_embeddings = 0;
  bool tie_word_embeddings = false;
  std::vector<LayerType> layer_types;  // num_hidden_layers

  int64_t linear_num_key_heads = 0;
  int64_t linear_num_value_heads = 0;
  int64_t linear_key_head_dim = 0;
  int64_t linear_value_head_dim = 0;
  int64_t linear_conv_kernel_dim = 0;

  int64_t intermediate_size = 0;  // dense only, else 0
  int64_t num_experts = 0;        // 0 = dense
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t shared_expert_intermediate_size = 0;
  bool norm_topk_prob = true;

  std::vector<int64_t> eos_token_id;  // of the text config, may be empty
  std::vector<std::string> warnings;  // what was odd but accepted, to be logged once

  bool is_moe() const { return num_experts > 0; }
  int64_t num_layers_of(LayerType type) const;
  int64_t key_dim() const { return linear_num_key_heads * linear_key_head_dim; }        // Kd
  int64_t value_dim() const { return linear_num_value_heads * linear_value_head_dim; }  // Vd
  int64_t conv_channels() const { return 2 * key_dim() + value_dim(); }                 // Cd
};

// `json`: the bytes of a config.json, nested (text_config) or flat. Every refusal names the field,
// the value and what would do: INVALID_ARGUMENT for bad values, UNIMPLEMENTED for what this server
// does not have (other model types, quantised checkpoints, rope types, the unsupported fields of
// spec 1.2).
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& json);

// Reads DIR/config.json (or the file itself where `path` is one). Errors name the path; NOT_FOUND
// where there is no such file.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& path);

// Every number that decides what the model computes, in fixed order and spelling, one line a field:
// equal for the nested and the flat form of one model. Warnings are no part of it.
std::string NormalizedText(const ModelConfig& config);

// "layer_types" spelling: "linear_attention", "full_attention".
const char* LayerTypeName(LayerType type);

}  // namespace deltaserve
