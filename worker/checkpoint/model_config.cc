#include "worker/checkpoint/model_config.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/config_refusals.h"
#include "worker/checkpoint/files.h"
#include "worker/checkpoint/json_fields.h"

namespace deltaserve {
namespace {

using Json = nlohmann::json;

// Bounds of what is taken from a file, so that no product of sizes overflows.
constexpr int64_t kMostRows = int64_t{1} << 24;
constexpr int64_t kMostWidth = int64_t{1} << 20;
constexpr int64_t kMostHeads = int64_t{1} << 14;
constexpr int64_t kMostLayers = int64_t{1} << 12;

absl::StatusOr<ModelFamily> FamilyOf(const std::string& model_type) {
  if (model_type == "qwen3_5" || model_type == "qwen3_5_text") return ModelFamily::kQwen35;
  if (model_type == "qwen3_5_moe" || model_type == "qwen3_5_moe_text") {
    return ModelFamily::kQwen35Moe;
  }
  if (model_type == "qwen3_next") return ModelFamily::kQwen3Next;
  return absl::UnimplementedError(
      absl::StrCat("model_type is \"", model_type,
                   "\": this server has qwen3_5, qwen3_5_text, qwen3_5_moe, qwen3_5_moe_text and "
                   "qwen3_next; serve a checkpoint of one of these"));
}

// Sets family and model_type from the outer object and, where there is one, text_config.
absl::Status ReadFamily(const Json& root, const Json& text, ModelConfig& config) {
  JsonFields outer(root);
  JsonFields inner(text);
  const auto outer_type = outer.Text("model_type");
  const auto inner_type = inner.Text("model_type");
  DS_RETURN_IF_ERROR(outer.status());
  DS_RETURN_IF_ERROR(inner.status());
  if (!outer_type && !inner_type) {
    return absl::InvalidArgumentError(
        "model_type is missing: config.json must state it, e.g. \"qwen3_5\"");
  }
  DS_ASSIGN_OR_RETURN(config.family, FamilyOf(outer_type ? *outer_type : *inner_type));
  config.model_type = inner_type ? *inner_type : *outer_type;
  DS_ASSIGN_OR_RETURN(const ModelFamily inner_family, FamilyOf(config.model_type));
  if (inner_family != config.family) {
    return absl::InvalidArgumentError(absl::StrCat("model_type is \"", *outer_type,
                                                   "\" but text_config.model_type is \"",
                                                   *inner_type, "\": they must name one family"));
  }
  return absl::OkStatus();
}

void ReadSizes(JsonFields& fields, ModelConfig& config) {
  config.vocab_size = fields.Int("vocab_size", 1, kMostRows);
  config.hidden_size = fields.Int("hidden_size", 1, kMostWidth);
  config.num_hidden_layers = fields.Int("num_hidden_layers", 1, kMostLayers);
  config.num_attention_heads = fields.Int("num_attention_heads", 1, kMostHeads);
  config.num_key_value_heads = fields.Int("num_key_value_heads", 1, kMostHeads);
  // Absent fields mean what the family's config class says (spec 1.2).
  config.head_dim = fields.IntOr("head_dim", 1, kMostHeads, 256);
  config.rms_norm_eps = fields.PositiveNumber("rms_norm_eps").value_or(1e-6);
  config.max_position_embeddings =
      fields.IntOr("max_position_embeddings", 1, int64_t{1} << 30, 32768);
  config.linear_num_key_heads = fields.IntOr("linear_num_key_heads", 1, kMostHeads, 16);
  config.linear_num_value_heads = fields.IntOr("linear_num_value_heads", 1, kMostHeads, 32);
  config.linear_key_head_dim = fields.IntOr("linear_key_head_dim", 1, kMostHeads, 128);
  config.linear_value_head_dim = fields.IntOr("linear_value_head_dim", 1, kMostHeads, 128);
  config.linear_conv_kernel_dim = fields.IntOr("linear_conv_kernel_dim", 2, 64, 4);
  config.eos_token_id = fields.Ids("eos_token_id");
}

void ReadFeedForward(JsonFields& fields, ModelConfig& config) {
  if (config.family == ModelFamily::kQwen35) {
    config.intermediate_size = fields.Int("intermediate_size", 1, kMostWidth);
    return;
  }
  config.num_experts = fields.Int("num_experts", 1, kMostHeads);
  config.num_experts_per_tok = fields.Int("num_experts_per_tok", 1, kMostHeads);
  config.moe_intermediate_size = fields.Int("moe_intermediate_size", 1, kMostWidth);
  config.shared_expert_intermediate_size =
      fields.Int("shared_expert_intermediate_size", 1, kMostWidth);
  config.norm_topk_prob = fields.Bool("norm_topk_prob").value_or(true);
  if (config.num_experts_per_tok > config.num_experts) {
    fields.Refuse(absl::StrCat("num_experts_per_tok is ", config.num_experts_per_tok,
                               ": there are only num_experts = ", config.num_experts));
  }
  if (config.family == ModelFamily::kQwen35Moe && !config.norm_topk_prob) {
    fields.RefuseUnsupported(
        "norm_topk_prob is false: Qwen3.5's router always renormalises; remove the field or set it "
        "to true");
  }
}

void ReadLayerTypes(JsonFields& fields, ModelConfig& config) {
  const auto names = fields.Texts("layer_types");
  const int64_t interval = fields.IntOr("full_attention_interval", 1, kMostLayers, 4);
  if (!fields.status().ok()) return;
  if (!names) {
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      const bool full = (i + 1) % interval == 0;
      config.layer_types.push_back(full ? LayerType::kFullAttention : LayerType::kLinearAttention);
    }
    return;
  }
  if (static_cast<int64_t>(names->size()) != config.num_hidden_layers) {
    fields.Refuse(absl::StrCat("layer_types has ", names->size(), " entries: num_hidden_layers is ",
                               config.num_hidden_layers, "; they must agree"));
    return;
  }
  for (size_t i = 0; i < names->size(); ++i) {
    const std::string& name = (*names)[i];
    if (name == LayerTypeName(LayerType::kLinearAttention)) {
      config.layer_types.push_back(LayerType::kLinearAttention);
    } else if (name == LayerTypeName(LayerType::kFullAttention)) {
      config.layer_types.push_back(LayerType::kFullAttention);
    } else {
      fields.RefuseUnsupported(absl::StrCat("layer_types[", i, "] is \"", name,
                                            "\": it must be linear_attention or full_attention"));
    }
  }
}

// A non-null rope_scaling replaces rope_parameters; what stands inside wins over the flat fields.
void ReadRope(JsonFields& fields, const Json& text, ModelConfig& config) {
  const char* name = fields.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const Json empty = Json::object();
  const Json& object = fields.Has(name) ? text.at(name) : empty;
  if (!object.is_object()) {
    fields.Refuse(absl::StrCat(name, " is ", ShownJson(object), ": it must be an object"));
    return;
  }
  JsonFields inner(object);
  auto type = inner.Text("rope_type");
  if (!type) type = inner.Text("type");
  if (type && *type != "default") {
    fields.RefuseUnsupported(absl::StrCat(name, ".rope_type is \"", *type,
                                          "\": only default rotary positions are supported; use "
                                          "\"default\" or remove the scaling"));
  }
  const auto flat_theta = fields.PositiveNumber("rope_theta");
  const auto flat_factor = fields.PositiveNumber("partial_rotary_factor");
  const auto theta = inner.PositiveNumber("rope_theta");
  const auto factor = inner.PositiveNumber("partial_rotary_factor");
  if (!inner.status().ok()) {
    fields.Refuse(absl::StrCat(name, ".", std::string(inner.status().message())));
  }
  config.rope_theta = theta ? *theta : flat_theta.value_or(10000.0);
  const double partial = factor ? *factor : flat_factor.value_or(0.25);
  if (partial > 1) {
    fields.Refuse(absl::StrCat("partial_rotary_factor is ", partial, ": it must be at most 1"));
    return;
  }
  config.rotary_dim = static_cast<int64_t>(static_cast<double>(config.head_dim) * partial);
  if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0) {
    fields.Refuse(absl::StrCat("partial_rotary_factor is ", partial, " of head_dim ",
                               config.head_dim, ": that rotates ", config.rotary_dim,
                               " dimensions; it must be an even number of at least 2"));
  }
}

// The top level decides; a text_config that says otherwise is noted (spec 1.2).
void ReadTied(const Json& root, JsonFields& fields, ModelConfig& config) {
  JsonFields outer(root);
  const auto top = outer.Bool("tie_word_embeddings");
  const auto inner = fields.Bool("tie_word_embeddings");
  if (!outer.status().ok()) fields.Refuse(std::string(outer.status().message()));
  config.tie_word_embeddings = top ? *top : inner.value_or(false);
  if (top && inner && *top != *inner) {
    config.warnings.push_back(absl::StrCat("tie_word_embeddings is ", *top ? "true" : "false",
                                           " at the top level and ", *inner ? "true" : "false",
                                           " in text_config; the top level is taken"));
  }
}

absl::Status CheckHeads(const ModelConfig& config) {
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_key_value_heads is ", config.num_key_value_heads,
        ": it must divide num_attention_heads, which is ", config.num_attention_heads));
  }
  if (config.linear_num_value_heads % config.linear_num_key_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "linear_num_key_heads is ", config.linear_num_key_heads,
        ": it must divide linear_num_value_heads, which is ", config.linear_num_value_heads));
  }
  return absl::OkStatus();
}

}  // namespace

const char* LayerTypeName(LayerType type) {
  return type == LayerType::kLinearAttention ? "linear_attention" : "full_attention";
}

int64_t ModelConfig::num_layers_of(LayerType type) const {
  return std::count(layer_types.begin(), layer_types.end(), type);
}

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& json) {
  const Json root = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    return absl::InvalidArgumentError("it is not a JSON object; check that the file is whole");
  }
  const bool nested = root.contains("text_config") && !root["text_config"].is_null();
  const Json& text = nested ? root["text_config"] : root;
  if (!text.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("text_config is ", ShownJson(text), ": it must be an object"));
  }
  ModelConfig config;
  DS_RETURN_IF_ERROR(ReadFamily(root, text, config));
  DS_RETURN_IF_ERROR(RefuseUnsupportedFields(root, text));
  JsonFields fields(text);
  ReadSizes(fields, config);
  ReadFeedForward(fields, config);
  ReadLayerTypes(fields, config);
  ReadRope(fields, text, config);
  ReadTied(root, fields, config);
  const auto state_dtype = fields.Text("mamba_ssm_dtype");
  if (state_dtype && *state_dtype != "float32") {
    config.warnings.push_back(absl::StrCat("mamba_ssm_dtype is \"", *state_dtype,
                                           "\"; the recurrent state is kept in float32"));
  }
  DS_RETURN_IF_ERROR(fields.status());
  DS_RETURN_IF_ERROR(CheckHeads(config));
  return config;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& path) {
  const std::string file = IsDirectory(path) ? path + "/config.json" : path;
  DS_ASSIGN_OR_RETURN(const std::string json, ReadTextFile(file));
  auto config = ParseModelConfig(json);
  if (!config.ok()) {
    return absl::Status(config.status().code(),
                        absl::StrCat(file, ": ", std::string(config.status().message())));
  }
  return config;
}

std::string NormalizedText(const ModelConfig& config) {
  static constexpr const char* kFamilies[] = {"qwen3_5", "qwen3_5_moe", "qwen3_next"};
  std::vector<std::string> types;
  for (const LayerType type : config.layer_types) types.emplace_back(LayerTypeName(type));
  std::string text = absl::StrCat(
      "family=", kFamilies[static_cast<int>(config.family)], "\nvocab_size=", config.vocab_size,
      "\nhidden_size=", config.hidden_size, "\nnum_attention_heads=", config.num_attention_heads,
      "\nnum_key_value_heads=", config.num_key_value_heads, "\nhead_dim=", config.head_dim,
      "\nrotary_dim=", config.rotary_dim, "\nlayer_types=", absl::StrJoin(types, ","));
  // %.17g tells every double from every other.
  absl::StrAppend(&text, "\nrope_theta=", absl::StrFormat("%.17g", config.rope_theta),
                  "\nrms_norm_eps=", absl::StrFormat("%.17g", config.rms_norm_eps),
                  "\nmax_position_embeddings=", config.max_position_embeddings,
                  "\ntie_word_embeddings=", config.tie_word_embeddings ? 1 : 0);
  absl::StrAppend(&text, "\nlinear_num_key_heads=", config.linear_num_key_heads,
                  "\nlinear_num_value_heads=", config.linear_num_value_heads,
                  "\nlinear_key_head_dim=", config.linear_key_head_dim,
                  "\nlinear_value_head_dim=", config.linear_value_head_dim,
                  "\nlinear_conv_kernel_dim=", config.linear_conv_kernel_dim);
  absl::StrAppend(&text, "\nintermediate_size=", config.intermediate_size,
                  "\nnum_experts=", config.num_experts,
                  "\nnum_experts_per_tok=", config.num_experts_per_tok,
                  "\nmoe_intermediate_size=", config.moe_intermediate_size,
                  "\nshared_expert_intermediate_size=", config.shared_expert_intermediate_size,
                  "\nnorm_topk_prob=", config.norm_topk_prob ? 1 : 0, "\n");
  return text;
}

}  // namespace deltaserve
