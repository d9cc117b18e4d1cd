#include "worker/checkpoint/model_config.h"

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace deltaserve {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

std::string DataPath(const std::string& name) {
  return std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/configs/" + name + ".json";
}

Json DataJson(const std::string& name) {
  std::ifstream file(DataPath(name));
  return Json::parse(file);
}

// The text config alone, as text-only exports write it.
Json Flat(const std::string& name) {
  Json text = DataJson(name)["text_config"];
  text["architectures"] = {"Qwen3_5ForCausalLM"};
  return text;
}

ModelConfig Parsed(const Json& json) {
  const auto config = ParseModelConfig(json.dump());
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig{};
}

// Row of spec 1.4.
struct Published {
  const char* name;
  int64_t hidden, width, expert_width, layers, full, heads, kv_heads, value_heads, experts, top_k;
  bool tied;
};

const Published kPublished[] = {
    {"0.8b", 1024, 3584, 0, 24, 6, 8, 2, 16, 0, 0, true},
    {"2b", 2048, 6144, 0, 24, 6, 8, 2, 16, 0, 0, true},
    {"4b", 2560, 9216, 0, 32, 8, 16, 4, 32, 0, 0, true},
    {"9b", 4096, 12288, 0, 32, 8, 16, 4, 32, 0, 0, false},
    {"27b", 5120, 17408, 0, 64, 16, 24, 4, 48, 0, 0, false},
    {"35b-a3b", 2048, 0, 512, 40, 10, 16, 2, 32, 256, 8, false},
    {"122b-a10b", 3072, 0, 1024, 48, 12, 32, 2, 64, 256, 8, false},
    {"397b-a17b", 4096, 0, 1024, 60, 15, 32, 2, 64, 512, 10, false},
    {"qwen3-next-80b-a3b", 2048, 0, 512, 48, 12, 16, 2, 32, 512, 10, false},
};

TEST(ModelConfigTest, ReadsThePublishedSizes) {
  for (const Published& row : kPublished) {
    SCOPED_TRACE(row.name);
    const auto config = LoadModelConfig(DataPath(row.name));
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->hidden_size, row.hidden);
    EXPECT_EQ(config->intermediate_size, row.width);
    EXPECT_EQ(config->moe_intermediate_size, row.expert_width);
    EXPECT_EQ(config->shared_expert_intermediate_size, row.expert_width);
    EXPECT_EQ(config->num_hidden_layers, row.layers);
    EXPECT_EQ(config->num_layers_of(LayerType::kFullAttention), row.full);
    EXPECT_EQ(config->num_attention_heads, row.heads);
    EXPECT_EQ(config->num_key_value_heads, row.kv_heads);
    EXPECT_EQ(config->linear_num_value_heads, row.value_heads);
    EXPECT_EQ(config->linear_num_key_heads, 16);
    EXPECT_EQ(config->num_experts, row.experts);
    EXPECT_EQ(config->num_experts_per_tok, row.top_k);
    EXPECT_EQ(config->tie_word_embeddings, row.tied);
    EXPECT_EQ(config->head_dim, 256);
    EXPECT_EQ(config->rotary_dim, 64);
    EXPECT_EQ(config->rope_theta, 1e7);
    EXPECT_EQ(config->rms_norm_eps, 1e-6);
    EXPECT_EQ(config->key_dim(), 2048);
    EXPECT_TRUE(config->norm_topk_prob);
    EXPECT_TRUE(config->warnings.empty());
  }
}

TEST(ModelConfigTest, NestedAndFlatFormsAreOneModel) {
  EXPECT_EQ(NormalizedText(Parsed(DataJson("9b"))), NormalizedText(Parsed(Flat("9b"))));
  EXPECT_NE(NormalizedText(Parsed(DataJson("9b"))), NormalizedText(Parsed(DataJson("4b"))));
}

TEST(ModelConfigTest, EveryFieldEntersTheNormalizedText) {
  const std::string base = NormalizedText(Parsed(Flat("35b-a3b")));
  const std::vector<std::pair<const char*, Json>> changes = {
      {"vocab_size", 248384},
      {"hidden_size", 2304},
      {"num_attention_heads", 32},
      {"num_key_value_heads", 4},
      {"head_dim", 128},
      {"rms_norm_eps", 1e-5},
      {"max_position_embeddings", 99},
      {"tie_word_embeddings", true},
      {"linear_num_key_heads", 32},
      {"linear_num_value_heads", 64},
      {"linear_key_head_dim", 64},
      {"linear_value_head_dim", 64},
      {"linear_conv_kernel_dim", 3},
      {"num_experts", 128},
      {"num_experts_per_tok", 4},
      {"moe_intermediate_size", 256},
      {"shared_expert_intermediate_size", 256}};
  for (const auto& [name, value] : changes) {
    Json json = Flat("35b-a3b");
    json[name] = value;
    EXPECT_NE(NormalizedText(Parsed(json)), base) << name;
  }
}

TEST(ModelConfigTest, DerivesLayerTypesFromTheInterval) {
  Json json = Flat("0.8b");
  json.erase("layer_types");
  json["full_attention_interval"] = 3;
  const ModelConfig config = Parsed(json);
  for (size_t i = 0; i < config.layer_types.size(); ++i) {
    EXPECT_EQ(config.layer_types[i] == LayerType::kFullAttention, i % 3 == 2) << i;
  }
}

TEST(ModelConfigTest, ListedLayerTypesWinOverTheInterval) {
  Json json = Flat("0.8b");
  json["full_attention_interval"] = 2;
  EXPECT_EQ(Parsed(json).num_layers_of(LayerType::kFullAttention), 6);
}

TEST(ModelConfigTest, RopeParametersWinOverFlatFields) {
  Json json = Flat("0.8b");
  json["rope_theta"] = 5.0;
  json["partial_rotary_factor"] = 1.0;
  EXPECT_EQ(Parsed(json).rope_theta, 1e7);
  EXPECT_EQ(Parsed(json).rotary_dim, 64);
}

TEST(ModelConfigTest, RopeScalingReplacesRopeParameters) {
  Json json = Flat("0.8b");
  json["rope_theta"] = 500000;
  json["rope_scaling"] = {{"type", "default"}};
  EXPECT_EQ(Parsed(json).rope_theta, 500000);
}

TEST(ModelConfigTest, AbsentRopeMeansTheClassDefaults) {
  Json json = Flat("0.8b");
  json.erase("rope_parameters");
  json.erase("partial_rotary_factor");
  EXPECT_EQ(Parsed(json).rope_theta, 10000);
  EXPECT_EQ(Parsed(json).rotary_dim, 64);
}

TEST(ModelConfigTest, TopLevelDecidesAboutTheTiedHead) {
  Json json = DataJson("0.8b");
  json["tie_word_embeddings"] = false;
  const ModelConfig config = Parsed(json);
  EXPECT_FALSE(config.tie_word_embeddings);
  ASSERT_EQ(config.warnings.size(), 1U);
  EXPECT_THAT(config.warnings[0], HasSubstr("tie_word_embeddings is false at the top level"));
  json.erase("tie_word_embeddings");
  EXPECT_TRUE(Parsed(json).tie_word_embeddings);
}

TEST(ModelConfigTest, TakesOneOrSeveralEndTokens) {
  Json json = Flat("0.8b");
  EXPECT_EQ(Parsed(json).eos_token_id, std::vector<int64_t>({248044}));
  json["eos_token_id"] = {1, 2};
  EXPECT_EQ(Parsed(json).eos_token_id, std::vector<int64_t>({1, 2}));
  json["eos_token_id"] = nullptr;
  EXPECT_TRUE(Parsed(json).eos_token_id.empty());
}

TEST(ModelConfigTest, OnlyQwen3NextMayLeaveRoutingWeightsRaw) {
  Json next = DataJson("qwen3-next-80b-a3b");
  next["norm_topk_prob"] = false;
  EXPECT_FALSE(Parsed(next).norm_topk_prob);
}

TEST(ModelConfigTest, NotesAnotherStateDtype) {
  Json json = Flat("0.8b");
  json["mamba_ssm_dtype"] = "bfloat16";
  ASSERT_EQ(Parsed(json).warnings.size(), 1U);
  EXPECT_THAT(Parsed(json).warnings[0], HasSubstr("mamba_ssm_dtype is \"bfloat16\""));
}

// A field set to a value (erased where the value is discarded), and what the refusal says.
struct BadField {
  const char* base;
  const char* field;
  Json value;
  const char* message;
};

const Json kErased = Json(Json::value_t::discarded);

const BadField kBadFields[] = {
    {"0.8b", "model_type", "llama", "model_type is \"llama\": this server has qwen3_5"},
    {"0.8b", "model_type", "qwen4_exp", "model_type is \"qwen4_exp\""},
    {"0.8b", "model_type", kErased, "model_type is missing"},
    {"0.8b", "model_type", 5, "model_type is 5: it must be a string"},
    {"0.8b", "vocab_size", kErased, "vocab_size is missing"},
    {"0.8b", "hidden_size", 0, "hidden_size is 0: it must be a whole number from 1"},
    {"0.8b", "hidden_size", 1024.5, "hidden_size is 1024.5: it must be a whole number"},
    {"0.8b", "hidden_size", "1024", "hidden_size is \"1024\""},
    {"0.8b", "num_hidden_layers", -4, "num_hidden_layers is -4"},
    {"0.8b", "num_hidden_layers", 25, "layer_types has 24 entries: num_hidden_layers is 25"},
    {"0.8b", "num_key_value_heads", 3, "num_key_value_heads is 3: it must divide num_attention"},
    {"0.8b", "linear_num_key_heads", 5, "linear_num_key_heads is 5: it must divide"},
    {"0.8b", "intermediate_size", kErased, "intermediate_size is missing"},
    {"0.8b", "intermediate_size", 1e30, "intermediate_size is 1e+30"},
    {"0.8b", "vocab_size", 18446744073709551615U, "vocab_size is 18446744073709551615"},
    {"0.8b", "rms_norm_eps", 0, "rms_norm_eps is 0: it must be a number greater than 0"},
    {"0.8b", "hidden_act", "gelu", "hidden_act is \"gelu\""},
    {"0.8b", "attention_bias", true, "attention_bias is true"},
    {"0.8b", "attn_output_gate", false, "attn_output_gate is false"},
    {"0.8b", "output_gate_type", "sigmoid", "output_gate_type is \"sigmoid\""},
    {"0.8b", "layer_scale", true, "layer_scale is true"},
    {"0.8b", "tie_word_embeddings", "yes", "tie_word_embeddings is \"yes\": it must be true or"},
    {"0.8b", "dtype", "float16", "dtype is \"float16\": weights must be bfloat16 or float32"},
    {"0.8b", "layer_types", "full", "layer_types is \"full\": it must be a list of strings"},
    {"0.8b", "eos_token_id", {-1}, "eos_token_id is [-1]: it must be a token id or a list"},
    {"0.8b", "rope_parameters", 3, "rope_parameters is 3: it must be an object"},
    {"0.8b", "rope_parameters", {{"rope_type", "yarn"}}, "rope_parameters.rope_type is \"yarn\""},
    {"0.8b", "rope_scaling", {{"type", "linear"}}, "rope_scaling.rope_type is \"linear\""},
    {"0.8b", "rope_parameters", {{"rope_theta", -1}}, "rope_parameters.rope_theta is -1"},
    {"0.8b", "rope_parameters", {{"partial_rotary_factor", 2}}, "partial_rotary_factor is 2"},
    {"0.8b", "rope_parameters", {{"partial_rotary_factor", 0.004}}, "rotates 1 dimensions"},
    {"0.8b",
     "quantization_config",
     {{"quant_method", "fp8"}},
     "quant_method \"fp8\": quantised checkpoints are not supported; serve the BF16 release"},
    {"0.8b", "mtp_use_dedicated_embeddings", true, "mtp_use_dedicated_embeddings is true"},
    {"35b-a3b", "num_experts", kErased, "num_experts is missing"},
    {"35b-a3b", "num_experts_per_tok", 257, "num_experts_per_tok is 257: there are only"},
    {"35b-a3b", "norm_topk_prob", false, "norm_topk_prob is false: Qwen3.5's router always"},
    {"35b-a3b", "mlp_only_layers", {0}, "mlp_only_layers is [0]"},
    {"35b-a3b", "decoder_sparse_step", 2, "decoder_sparse_step is 2"},
    {"35b-a3b", "shared_expert_intermediate_size", kErased, "shared_expert_intermediate_size is"},
};

TEST(ModelConfigTest, RefusesBadFieldsByNameAndValue) {
  for (const BadField& row : kBadFields) {
    SCOPED_TRACE(std::string(row.field) + " = " + row.message);
    Json json = Flat(row.base);
    if (row.value.is_discarded()) {
      json.erase(row.field);
    } else {
      json[row.field] = row.value;
    }
    const auto config = ParseModelConfig(json.dump());
    ASSERT_FALSE(config.ok());
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(row.message));
  }
}

TEST(ModelConfigTest, RefusesALayerTypeByItsIndex) {
  Json json = Flat("0.8b");
  json["layer_types"][5] = "sliding_attention";
  EXPECT_THAT(std::string(ParseModelConfig(json.dump()).status().message()),
              HasSubstr("layer_types[5] is \"sliding_attention\""));
}

TEST(ModelConfigTest, RefusesWhatIsNoConfig) {
  for (const char* text : {"", "[]", "{\"model_type\": ", "\xff\xfe", "null"}) {
    EXPECT_THAT(std::string(ParseModelConfig(text).status().message()),
                HasSubstr("it is not a JSON object"))
        << text;
  }
  EXPECT_THAT(
      std::string(
          ParseModelConfig(R"({"model_type": "qwen3_5", "text_config": 3})").status().message()),
      HasSubstr("text_config is 3: it must be an object"));
}

TEST(ModelConfigTest, RefusesTwoFamiliesInOneFile) {
  Json json = DataJson("0.8b");
  json["text_config"]["model_type"] = "qwen3_5_moe_text";
  EXPECT_THAT(std::string(ParseModelConfig(json.dump()).status().message()),
              HasSubstr("they must name one family"));
}

TEST(ModelConfigTest, NamesTheFileThatIsMissing) {
  const auto config = LoadModelConfig(DataPath("no-such-model"));
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("no-such-model.json"));
}

}  // namespace
}  // namespace deltaserve
