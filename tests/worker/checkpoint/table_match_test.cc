#include "worker/checkpoint/table_match.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/checkpoint/checkpoint_fixture.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

constexpr char kLinear[] = "model.layers.0.linear_attn.";
constexpr char kFull[] = "model.layers.1.self_attn.";

void Erase(std::vector<FileTensor>& tensors, const std::string& name) {
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(),
                               [&](const FileTensor& tensor) { return tensor.name == name; }),
                tensors.end());
}

void Add(std::vector<FileTensor>& tensors, const std::string& name) {
  tensors.push_back({name, "BF16", {1}, "ab"});
}

absl::Status OpenStatus(const ModelConfig& config, const std::vector<FileTensor>& tensors) {
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  const auto plan = ShardPlan::Create(config, ParallelOptions{}, 0);
  return OpenCheckpoint(folder, config, *plan, WeightTable(config, ParallelOptions{}),
                        LoaderOptions{})
      .status();
}

// A change to the tensors of a good checkpoint, and what the refusal says.
struct BadTensors {
  const char* what;
  std::function<void(std::vector<FileTensor>&)> change;
  const char* message;
};

std::vector<BadTensors> DenseRows() {
  return {
      {"missing", [](auto& t) { Erase(t, "model.layers.1.mlp.down_proj.weight"); },
       "tensor model.layers.1.mlp.down_proj.weight is missing"},
      {"half of a fused weight missing",
       [](auto& t) { Erase(t, "model.layers.1.mlp.up_proj.weight"); },
       "tensor model.layers.1.mlp.up_proj.weight is missing"},
      {"no suffix", [](auto& t) { Erase(t, std::string(kLinear) + "dt_bias"); },
       "linear_attn.dt_bias is missing"},
      {"no embedding", [](auto& t) { Erase(t, "model.embed_tokens.weight"); },
       "tensor embed_tokens.weight is missing, both under model.language_model. and under model."},
      {"two prefixes", [](auto& t) { Add(t, "model.language_model.embed_tokens.weight"); },
       "keep the tensors of one prefix"},
      {"misshapen",
       [](auto& t) {
         Named(t, "model.norm.weight").shape = {3, 4};
       },
       "tensor model.norm.weight is [3, 4]: by config.json it must be [12]"},
      {"transposed",
       [](auto& t) {
         Named(t, std::string(kFull) + "o_proj.weight").shape = {80, 12};
       },
       "o_proj.weight is [80, 12]: by config.json it must be [12, 80]"},
      {"no gate rows in q_proj",
       [](auto& t) {
         FileTensor& q = Named(t, std::string(kFull) + "q_proj.weight");
         q.shape[0] /= 2;
         q.bytes.resize(q.bytes.size() / 2);
       },
       "q_proj.weight is [80, 12]: by config.json it must be [160, 12]"},
      {"F16", [](auto& t) { Named(t, "model.norm.weight").dtype = "F16"; },
       "tensor model.norm.weight is F16: weights must be BF16 or F32; convert"},
      {"FP8",
       [](auto& t) {
         FileTensor& norm = Named(t, "model.norm.weight");
         norm.dtype = "F8_E4M3";
         norm.bytes.resize(12);
       },
       "is F8_E4M3: weights must be BF16 or F32"},
      {"two dtypes in one weight",
       [](auto& t) {
         FileTensor& up = Named(t, "model.layers.0.mlp.up_proj.weight");
         up.dtype = "F32";
         up.bytes.resize(2 * up.bytes.size());
       },
       "up_proj.weight is F32 but model.layers.0.mlp.gate_proj.weight, which it is joined with"},
      {"squeezed conv",
       [](auto& t) {
         Named(t, std::string(kLinear) + "conv1d.weight").shape = {80, 4};
       },
       "a squeezed convolution, as MLX and GGUF exports have, is not supported"},
      {"MLX conv",
       [](auto& t) {
         Named(t, std::string(kLinear) + "conv1d.weight").shape = {80, 4, 1};
       },
       "an MLX export, whose norm weights differ too, is not supported"},
      {"separate gate", [](auto& t) { Add(t, std::string(kFull) + "o_gate_proj.weight"); },
       "o_gate_proj.weight is an attention gate stored apart"},
      {"bias", [](auto& t) { Add(t, std::string(kFull) + "q_proj.bias"); },
       "q_proj.bias is a bias: the projections of this family have none"},
      {"block FP8 scale", [](auto& t) { Add(t, std::string(kFull) + "q_proj.weight_scale_inv"); },
       "belongs to a quantised weight (block FP8)"},
      {"GPTQ", [](auto& t) { Add(t, "model.layers.0.mlp.down_proj.qweight"); },
       "belongs to a quantised weight (GPTQ or AWQ)"},
      {"NVFP4", [](auto& t) { Add(t, "model.layers.0.mlp.down_proj.weight_packed"); },
       "belongs to a quantised weight (compressed-tensors)"},
      {"unknown in a layer", [](auto& t) { Add(t, "model.layers.0.mlp.extra.weight"); },
       "tensor model.layers.0.mlp.extra.weight is none that this model has"},
      {"layer past the end", [](auto& t) { Add(t, "model.layers.2.input_layernorm.weight"); },
       "tensor model.layers.2.input_layernorm.weight is none that this model has"},
      {"linear weight in a full layer", [](auto& t) { Add(t, "model.layers.1.linear_attn.A_log"); },
       "tensor model.layers.1.linear_attn.A_log is none that this model has"},
      {"unknown outside layers", [](auto& t) { Add(t, "model.adapter.weight"); },
       "tensor model.adapter.weight is none that this model has"},
      {"experts in a dense model",
       [](auto& t) { Add(t, "model.layers.0.mlp.experts.0.gate_proj.weight"); },
       "experts.0.gate_proj.weight is none that this model has"},
  };
}

std::vector<BadTensors> ExpertRows() {
  const std::string experts = "model.layers.0.mlp.experts.";
  return {
      {"one expert missing", [=](auto& t) { Erase(t, experts + "5.up_proj.weight"); },
       "experts.5.up_proj.weight is missing"},
      {"both forms", [=](auto& t) { Add(t, experts + "gate_up_proj"); },
       "experts.0.gate_proj.weight is none that this model has"},
      {"one expert too many", [=](auto& t) { Add(t, experts + "8.up_proj.weight"); },
       "experts.8.up_proj.weight is none that this model has"},
      {"no router", [](auto& t) { Erase(t, "model.layers.0.mlp.gate.weight"); },
       "tensor model.layers.0.mlp.gate.weight is missing"},
  };
}

void ExpectRefusals(const ModelConfig& config,
                    ExpertForm form,
                    const std::vector<BadTensors>& rows) {
  for (const BadTensors& row : rows) {
    SCOPED_TRACE(row.what);
    auto tensors = FileTensors(config, form);
    ASSERT_TRUE(OpenStatus(config, tensors).ok());
    row.change(tensors);
    const absl::Status status = OpenStatus(config, tensors);
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.message));
  }
}

TEST(TableMatchTest, RefusesBadTensorsByName) {
  ExpectRefusals(TinyConfig(ModelFamily::kQwen35), ExpertForm::kFused, DenseRows());
}

TEST(TableMatchTest, RefusesBadExpertsByName) {
  ExpectRefusals(TinyConfig(ModelFamily::kQwen35Moe), ExpertForm::kPerExpert, ExpertRows());
}

TEST(TableMatchTest, ListsWhatItSkipsAndWarnsOfAMissingHead) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  Erase(tensors, "lm_head.weight");
  Add(tensors, "mtp.norm.weight");
  Add(tensors, "model.visual.pos_embed.weight");
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  const auto files = CheckpointFiles::Open(folder);
  ASSERT_TRUE(files.ok());
  const auto match = MatchTable(*files, config, WeightTable(config, ParallelOptions{}));
  ASSERT_TRUE(match.ok()) << match.status();
  EXPECT_EQ(match->prefix, "model.");
  EXPECT_THAT(match->skipped,
              testing::ElementsAre("model.visual.pos_embed.weight", "mtp.norm.weight"));
  ASSERT_EQ(match->warnings.size(), 1U);
  EXPECT_THAT(match->warnings[0], HasSubstr("lm_head.weight is missing although"));
}

TEST(TableMatchTest, SummarizesNamesThatDifferInNumbers) {
  EXPECT_EQ(SummarizeNames({"mtp.fc.weight", "mtp.layers.0.mlp.experts.0.up_proj.weight",
                            "mtp.layers.0.mlp.experts.13.up_proj.weight", "visual.conv2d.weight"}),
            "mtp.fc.weight, mtp.layers.*.mlp.experts.*.up_proj.weight (2), visual.conv2d.weight");
}

}  // namespace
}  // namespace deltaserve
