#include "tools/checkpoint_shapes.h"

#include <utility>

namespace deltaserve {
namespace {

// "LLLF": L = linear attention, F = full attention.
std::vector<LayerType> Layers(const std::string& letters) {
  std::vector<LayerType> types;
  for (const char letter : letters) {
    types.push_back(letter == 'F' ? LayerType::kFullAttention : LayerType::kLinearAttention);
  }
  return types;
}

struct Sizes {
  ModelFamily family = ModelFamily::kQwen35;
  const char* model_type = "";  // of the text config
  int64_t vocab = 0;
  int64_t hidden = 0;
  const char* layers = "";
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t key_heads = 4;
  int64_t value_heads = 0;
  int64_t width = 0;  // dense, or shared expert
  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t expert_width = 0;
  bool tied = false;
};

// The head sizes of every published model, and the usual eps and theta.
ModelConfig Config(const Sizes& sizes) {
  ModelConfig config;
  config.family = sizes.family;
  config.model_type = sizes.model_type;
  config.vocab_size = sizes.vocab;
  config.hidden_size = sizes.hidden;
  config.layer_types = Layers(sizes.layers);
  config.num_hidden_layers = static_cast<int64_t>(config.layer_types.size());
  config.num_attention_heads = sizes.heads;
  config.num_key_value_heads = sizes.kv_heads;
  config.head_dim = 256;
  config.rotary_dim = 64;
  config.rope_theta = 1e7;
  config.rms_norm_eps = 1e-6;
  config.max_position_embeddings = 32768;
  config.tie_word_embeddings = sizes.tied;
  config.linear_num_key_heads = sizes.key_heads;
  config.linear_num_value_heads = sizes.value_heads;
  config.linear_key_head_dim = 128;
  config.linear_value_head_dim = 128;
  config.linear_conv_kernel_dim = 4;
  if (sizes.experts == 0) {
    config.intermediate_size = sizes.width;
  } else {
    config.num_experts = sizes.experts;
    config.num_experts_per_tok = sizes.top_k;
    config.moe_intermediate_size = sizes.expert_width;
    config.shared_expert_intermediate_size = sizes.width;
  }
  return config;
}

std::vector<CheckpointShape> PlainShapes() {
  std::vector<CheckpointShape> shapes;
  shapes.push_back({.name = "tiny-dense",
                    .purpose = "4 layers, hidden 128, dense",
                    .config = Config({.model_type = "qwen3_5_text",
                                      .vocab = 1280,
                                      .hidden = 128,
                                      .layers = "LLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 8,
                                      .width = 384})});
  shapes.push_back({.name = "tiny-moe",
                    .purpose = "4 layers, hidden 128, 16 experts, 4 a token",
                    .config = Config({.family = ModelFamily::kQwen35Moe,
                                      .model_type = "qwen3_5_moe_text",
                                      .vocab = 1280,
                                      .hidden = 128,
                                      .layers = "LLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 8,
                                      .width = 64,
                                      .experts = 16,
                                      .top_k = 4,
                                      .expert_width = 64})});
  shapes.push_back({.name = "tiny-next",
                    .purpose = "Qwen3-Next, 4 layers, hidden 128, 16 experts, 4 a token",
                    .config = Config({.family = ModelFamily::kQwen3Next,
                                      .model_type = "qwen3_next",
                                      .vocab = 1280,
                                      .hidden = 128,
                                      .layers = "LLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 8,
                                      .width = 64,
                                      .experts = 16,
                                      .top_k = 4,
                                      .expert_width = 64}),
                    .experts = ExpertForm::kPerExpert,
                    .nested = false,
                    .prefix = "model."});
  shapes.push_back({.name = "0.8b",
                    .purpose = "the sizes of the published 0.8B model (1.5 GB)",
                    .config = Config({.model_type = "qwen3_5_text",
                                      .vocab = 248320,
                                      .hidden = 1024,
                                      .layers = "LLLFLLLFLLLFLLLFLLLFLLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .key_heads = 16,
                                      .value_heads = 16,
                                      .width = 3584,
                                      .tied = true})});
  shapes.back().config.max_position_embeddings = 262144;
  shapes.push_back({.name = "moe-cut",
                    .purpose = "8 layers of a published size, hidden 2048, 64 experts, 8 a token "
                               "(5.7 GB; --config-only for measurements)",
                    .config = Config({.family = ModelFamily::kQwen35Moe,
                                      .model_type = "qwen3_5_moe_text",
                                      .vocab = 248320,
                                      .hidden = 2048,
                                      .layers = "LLLFLLLF",
                                      .heads = 16,
                                      .kv_heads = 2,
                                      .key_heads = 16,
                                      .value_heads = 32,
                                      .width = 512,
                                      .experts = 64,
                                      .top_k = 8,
                                      .expert_width = 512})});
  return shapes;
}

std::vector<CheckpointShape> DenseGoldens() {
  std::vector<CheckpointShape> shapes;
  shapes.push_back({.name = "dense-tied",
                    .purpose = "1 value head a key head, tied head, MTP and vision tensors beside",
                    .config = Config({.model_type = "qwen3_5_text",
                                      .vocab = 1088,
                                      .hidden = 64,
                                      .layers = "LLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 4,
                                      .width = 192,
                                      .tied = true}),
                    .num_files = 3,
                    .extra_tensors = true});
  shapes.push_back({.name = "dense-flat",
                    .purpose = "flat config, odd vocabulary, two full layers in a row, 4 KV heads",
                    .config = Config({.model_type = "qwen3_5_text",
                                      .vocab = 1153,
                                      .hidden = 96,
                                      .layers = "LLFFLL",
                                      .heads = 8,
                                      .kv_heads = 4,
                                      .value_heads = 8,
                                      .width = 160}),
                    .nested = false,
                    .prefix = "model."});
  shapes.push_back({.name = "dense-one-kv-head",
                    .purpose = "begins with a full layer, one KV head, 4 value heads a key head, "
                               "eps 1e-5, theta 5e5",
                    .config = Config({.model_type = "qwen3_5_text",
                                      .vocab = 1216,
                                      .hidden = 80,
                                      .layers = "FLL",
                                      .heads = 4,
                                      .kv_heads = 1,
                                      .value_heads = 16,
                                      .width = 128})});
  shapes.back().config.rms_norm_eps = 1e-5;
  shapes.back().config.rope_theta = 5e5;
  shapes.push_back({.name = "dense-deep",
                    .purpose = "9 layers, hidden 160",
                    .config = Config({.model_type = "qwen3_5_text",
                                      .vocab = 1280,
                                      .hidden = 160,
                                      .layers = "LLLFLLLFL",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 8,
                                      .width = 256}),
                    .num_files = 2});
  return shapes;
}

std::vector<CheckpointShape> ExpertGoldens() {
  std::vector<CheckpointShape> shapes;
  shapes.push_back({.name = "moe-fused",
                    .purpose = "fused experts, 8, 2 a token",
                    .config = Config({.family = ModelFamily::kQwen35Moe,
                                      .model_type = "qwen3_5_moe_text",
                                      .vocab = 1152,
                                      .hidden = 96,
                                      .layers = "LLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 8,
                                      .width = 64,
                                      .experts = 8,
                                      .top_k = 2,
                                      .expert_width = 48})});
  shapes.push_back({.name = "moe-per-expert",
                    .purpose = "one tensor an expert, 16, 4 a token, begins with a full layer, "
                               "theta 1e6",
                    .config = Config({.family = ModelFamily::kQwen35Moe,
                                      .model_type = "qwen3_5_moe_text",
                                      .vocab = 1120,
                                      .hidden = 64,
                                      .layers = "FLLFL",
                                      .heads = 8,
                                      .kv_heads = 4,
                                      .value_heads = 16,
                                      .width = 96,
                                      .experts = 16,
                                      .top_k = 4,
                                      .expert_width = 32}),
                    .experts = ExpertForm::kPerExpert,
                    .nested = false,
                    .prefix = "model.",
                    .num_files = 2});
  shapes.back().config.rope_theta = 1e6;
  shapes.push_back({.name = "moe-tied",
                    .purpose = "experts with a tied head, one KV head, 1 value head a key head",
                    .config = Config({.family = ModelFamily::kQwen35Moe,
                                      .model_type = "qwen3_5_moe_text",
                                      .vocab = 1187,
                                      .hidden = 128,
                                      .layers = "LFL",
                                      .heads = 4,
                                      .kv_heads = 1,
                                      .value_heads = 4,
                                      .width = 64,
                                      .experts = 16,
                                      .top_k = 4,
                                      .expert_width = 64,
                                      .tied = true}),
                    .extra_tensors = true});
  return shapes;
}

std::vector<CheckpointShape> NextGoldens() {
  std::vector<CheckpointShape> shapes;
  shapes.push_back({.name = "next",
                    .purpose = "Qwen3-Next, 2 value heads a key head, experts 8, 2 a token",
                    .config = Config({.family = ModelFamily::kQwen3Next,
                                      .model_type = "qwen3_next",
                                      .vocab = 1088,
                                      .hidden = 64,
                                      .layers = "LLLF",
                                      .heads = 8,
                                      .kv_heads = 2,
                                      .value_heads = 8,
                                      .width = 64,
                                      .experts = 8,
                                      .top_k = 2,
                                      .expert_width = 64})});
  shapes.push_back({.name = "next-raw-weights",
                    .purpose = "Qwen3-Next, norm_topk_prob false, 4 value heads a key head, 16 "
                               "experts, odd vocabulary, eps 1e-5",
                    .config = Config({.family = ModelFamily::kQwen3Next,
                                      .model_type = "qwen3_next",
                                      .vocab = 1153,
                                      .hidden = 96,
                                      .layers = "LLFFLLL",
                                      .heads = 8,
                                      .kv_heads = 4,
                                      .value_heads = 16,
                                      .width = 32,
                                      .experts = 16,
                                      .top_k = 4,
                                      .expert_width = 32}),
                    .num_files = 2});
  shapes.back().config.norm_topk_prob = false;
  shapes.back().config.rms_norm_eps = 1e-5;
  for (CheckpointShape& shape : shapes) {
    shape.experts = ExpertForm::kPerExpert;
    shape.nested = false;
    shape.prefix = "model.";
  }
  return shapes;
}

}  // namespace

std::vector<CheckpointShape> AllCheckpointShapes() {
  std::vector<CheckpointShape> shapes = PlainShapes();
  uint64_t seed = 1;
  for (const auto& goldens : {DenseGoldens(), ExpertGoldens(), NextGoldens()}) {
    for (CheckpointShape shape : goldens) {
      shape.golden = true;
      shape.seed = seed++;
      shapes.push_back(std::move(shape));
    }
  }
  return shapes;
}

}  // namespace deltaserve
