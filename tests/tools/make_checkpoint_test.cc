#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/run_tool.h"
#include "tools/checkpoint_shapes.h"
#include "worker/checkpoint/weight_loader.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

ToolResult Make(const std::vector<std::string>& arguments) {
  return RunTool("make_checkpoint", arguments);
}

std::string Digest(const std::string& folder) {
  std::string text = Make({"--digest", folder}).output;
  return text.substr(0, text.find('\n'));
}

std::map<std::string, std::string> TakeAll(WeightLoader& loader, const ModelConfig& config) {
  EXPECT_TRUE(loader.LoadAll().ok());
  std::map<std::string, std::string> all;
  for (const WeightSpec& spec : WeightTable(config, ParallelOptions{})) {
    if (!loader.Has(spec.name)) continue;
    const auto weight = loader.Take(spec.name);
    all[spec.name] =
        std::string(static_cast<const char*>(weight->data.data()), weight->data.bytes());
  }
  return all;
}

// The committed goldens are of these very bytes.
TEST(MakeCheckpointTest, WritesTheGoldensByteForByte) {
  std::ifstream file(std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/goldens/manifest.json");
  const auto manifest = nlohmann::json::parse(file);
  const test::TempDir folder;
  std::set<std::string> known;
  for (const auto& model : manifest["models"]) {
    const std::string name = model["model"];
    SCOPED_TRACE(name);
    known.insert(name);
    const ToolResult made = Make({"--golden", name, "--output", folder / name});
    ASSERT_EQ(made.code, 0) << made.output;
    EXPECT_EQ(Digest(folder / name), model["digest"]);
  }
  for (const CheckpointShape& shape : AllCheckpointShapes()) {
    EXPECT_EQ(known.count(shape.name), shape.golden ? 1U : 0U) << shape.name;
  }
}

// Every golden folder is taken by the loader as what the shape says.
TEST(MakeCheckpointTest, WritesFoldersThatLoad) {
  const test::TempDir folder;
  for (const CheckpointShape& shape : AllCheckpointShapes()) {
    if (shape.name == "0.8b" || shape.name == "moe-cut") continue;  // gigabytes
    SCOPED_TRACE(shape.name);
    const ToolResult made =
        Make({shape.golden ? "--golden" : "--shape", shape.name, "--output", folder / shape.name});
    ASSERT_EQ(made.code, 0) << made.output;
    const auto config = LoadModelConfig(folder / shape.name);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(NormalizedText(*config), NormalizedText(shape.config));
    const auto plan = ShardPlan::Create(*config, ParallelOptions{.ranks = 4}, 3);
    ASSERT_TRUE(plan.ok()) << plan.status();
    auto loader = OpenCheckpoint(folder / shape.name, *config, *plan,
                                 WeightTable(*config, plan->options()), LoaderOptions{});
    ASSERT_TRUE(loader.ok()) << loader.status();
    EXPECT_TRUE((*loader)->LoadAll().ok());
  }
}

// A folder of seed S is what --load=random:S makes of its config.
TEST(MakeCheckpointTest, WritesTheRandomWeightsOfTheSeed) {
  const test::TempDir folder;
  for (const char* name : {"tiny-dense", "tiny-moe", "tiny-next"}) {
    SCOPED_TRACE(name);
    ASSERT_EQ(Make({"--shape", name, "--seed", "42", "--output", folder / name}).code, 0);
    const auto config = LoadModelConfig(folder / name);
    ASSERT_TRUE(config.ok());
    const auto plan = ShardPlan::Create(*config, ParallelOptions{}, 0);
    const auto table = WeightTable(*config, ParallelOptions{});
    auto read = OpenCheckpoint(folder / name, *config, *plan, table, LoaderOptions{});
    ASSERT_TRUE(read.ok()) << read.status();
    const auto stored = TakeAll(**read, *config);
    auto same = RandomWeights(42, *config, *plan, table, LoaderOptions{});
    EXPECT_TRUE(stored == TakeAll(**same, *config));
    auto other = RandomWeights(43, *config, *plan, table, LoaderOptions{});
    EXPECT_FALSE(stored == TakeAll(**other, *config));
  }
}

// What the comparison with the reference must cover.
TEST(MakeCheckpointTest, GoldensCoverTheFamily) {
  std::set<ModelFamily> families;
  std::set<int64_t> ratios, kv_heads, layers, top_k;
  std::set<double> thetas, epsilons;
  std::set<bool> tied, nested, normalised, odd;
  std::set<ExpertForm> forms;
  bool begins_full = false, two_in_a_row = false;
  for (const CheckpointShape& shape : AllCheckpointShapes()) {
    if (!shape.golden) continue;
    const ModelConfig& config = shape.config;
    families.insert(config.family);
    ratios.insert(config.linear_num_value_heads / config.linear_num_key_heads);
    kv_heads.insert(config.num_key_value_heads);
    layers.insert(config.num_hidden_layers);
    thetas.insert(config.rope_theta);
    epsilons.insert(config.rms_norm_eps);
    tied.insert(config.tie_word_embeddings);
    nested.insert(shape.nested);
    normalised.insert(config.norm_topk_prob);
    odd.insert(config.vocab_size % 64 != 0);
    if (config.is_moe()) {
      forms.insert(shape.experts);
      top_k.insert(config.num_experts_per_tok);
    }
    begins_full |= config.layer_types[0] == LayerType::kFullAttention;
    for (size_t i = 1; i < config.layer_types.size(); ++i) {
      two_in_a_row |= config.layer_types[i] == LayerType::kFullAttention &&
                      config.layer_types[i - 1] == LayerType::kFullAttention;
    }
    EXPECT_EQ(config.head_dim, 256);
    EXPECT_EQ(ShardPlan::LegalDegrees(config, ParallelOptions{}), std::vector<int>({1, 2, 4}));
  }
  EXPECT_EQ(families.size(), 3U);
  EXPECT_THAT(ratios, testing::ElementsAre(1, 2, 4));
  EXPECT_THAT(kv_heads, testing::ElementsAre(1, 2, 4));
  EXPECT_EQ(*layers.begin(), 3);
  EXPECT_EQ(*layers.rbegin(), 9);
  EXPECT_GE(thetas.size(), 2U);
  EXPECT_GE(epsilons.size(), 2U);
  for (const auto& both : {tied, nested, normalised, odd}) EXPECT_EQ(both.size(), 2U);
  EXPECT_EQ(forms.size(), 2U);
  EXPECT_THAT(top_k, testing::ElementsAre(2, 4));
  EXPECT_TRUE(begins_full && two_in_a_row);
}

TEST(MakeCheckpointTest, NeverOverwritesWithoutForce) {
  const test::TempDir folder;
  ASSERT_EQ(Make({"--shape", "tiny-dense", "--output", folder / "m"}).code, 0);
  const std::string digest = Digest(folder / "m");
  const ToolResult again = Make({"--shape", "tiny-dense", "--seed", "2", "--output", folder / "m"});
  EXPECT_EQ(again.code, 64);
  EXPECT_THAT(again.output, HasSubstr("choose another --output, or replace it with --force"));
  EXPECT_EQ(Digest(folder / "m"), digest);
  EXPECT_EQ(
      Make({"--shape", "tiny-dense", "--seed", "2", "--output", folder / "m", "--force"}).code, 0);
  EXPECT_NE(Digest(folder / "m"), digest);
  // What another shape left behind is gone.
  ASSERT_EQ(Make({"--golden", "dense-tied", "--output", folder / "g"}).code, 0);
  ASSERT_EQ(Make({"--shape", "tiny-dense", "--output", folder / "g", "--force"}).code, 0);
  EXPECT_EQ(Digest(folder / "g"), digest);
}

TEST(MakeCheckpointTest, RefusesBadCommandLinesByFlag) {
  const test::TempDir folder;
  const std::pair<std::vector<std::string>, const char*> rows[] = {
      {{}, "--shape and --golden: give one of them"},
      {{"--shape", "tiny-dense", "--golden", "next"}, "--shape and --golden: give one of them"},
      {{"--shape", "tiny-dense"}, "--output is missing"},
      {{"--shape", "huge", "--output", folder / "a"},
       "--shape is \"huge\": use one of tiny-dense, tiny-moe, tiny-next, 0.8b"},
      {{"--golden", "tiny-dense", "--output", folder / "a"}, "--golden is \"tiny-dense\": use"},
      {{"--shape", "tiny-dense", "--output", folder / "a", "--tokenizer", folder.path()},
       "has no tokenizer.json; give a folder that has one with --tokenizer"},
      {{"--shape", "tiny-dense", "--seed", "x", "--output", folder / "a"}, "--seed"},
      {{"--digest", folder / "none"}, "give a model folder"},
  };
  for (const auto& [arguments, message] : rows) {
    const ToolResult result = Make(arguments);
    EXPECT_EQ(result.code, 64) << message;
    EXPECT_THAT(result.output, HasSubstr(message));
  }
}

}  // namespace
}  // namespace deltaserve
