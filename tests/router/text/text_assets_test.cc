#include "router/text/text_assets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TextAssetsTest, ReadsTheFilesThatAFolderHas) {
  const auto assets =
      TextAssets::Read(std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/tokenizer");
  ASSERT_TRUE(assets.ok()) << assets.status();
  EXPECT_EQ(assets->files.size(), 4u);
  EXPECT_EQ(assets->Bytes(kGenerationConfigFile), FixtureBytes("generation_config.json"));
  EXPECT_EQ(assets->Bytes(kChatTemplateFile), FixtureBytes("chat_template.jinja"));
  const auto tokenizer = assets->MakeTokenizer();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_token_id(), 969);
}

TEST(TextAssetsTest, AFolderWithoutTokenizerIsRefused) {
  const auto assets = TextAssets::Read(std::string(DELTASERVE_SOURCE_DIR) + "/tests");
  EXPECT_EQ(assets.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(assets.status().message()), HasSubstr("has no tokenizer.json"));
  EXPECT_EQ(TextAssets().MakeTokenizer().status().code(), absl::StatusCode::kNotFound);
}

TEST(TextAssetsTest, AnUnreadableFileIsDataLoss) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "text_assets_test";
  std::filesystem::create_directories(folder / "tokenizer.json");  // a folder in the file's place
  const auto assets = TextAssets::Read(folder.string());
  EXPECT_EQ(assets.status().code(), absl::StatusCode::kDataLoss) << assets.status();
  std::filesystem::remove_all(folder);
}

TEST(GenerationDefaultsTest, ReadsThePublishedForm) {
  const auto defaults = GenerationDefaults::Parse(FixtureBytes("generation_config.json"));
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->temperature, 0.6f);
  EXPECT_EQ(defaults->top_p, 0.95f);
  EXPECT_EQ(defaults->top_k, 20);
  EXPECT_EQ(defaults->min_p, std::nullopt);
  EXPECT_EQ(defaults->repetition_penalty, std::nullopt);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(967, 969));
}

TEST(GenerationDefaultsTest, AbsentIsNotZero) {
  for (const char* bytes : {"", "{}", R"({"temperature": null, "eos_token_id": null})"}) {
    const auto defaults = GenerationDefaults::Parse(bytes);
    ASSERT_TRUE(defaults.ok()) << defaults.status();
    EXPECT_EQ(defaults->temperature, std::nullopt);
    EXPECT_EQ(defaults->top_k, std::nullopt);
    EXPECT_TRUE(defaults->eos_token_ids.empty());
  }
}

TEST(GenerationDefaultsTest, NoSamplingIsTemperatureZero) {
  const auto defaults = GenerationDefaults::Parse(
      R"({"do_sample": false, "temperature": 0.7, "eos_token_id": 5, "top_k": -1})");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->temperature, 0.0f);
  EXPECT_EQ(defaults->top_k, 0);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(5));
}

TEST(GenerationDefaultsTest, RefusesBadValuesByName) {
  struct Case {
    const char* bytes;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"{", "generation_config.json (1 bytes) is not JSON"},
      {R"({"temperature": -1})", "generation_config.json: temperature is -1: 0 (greedy) or more"},
      {R"({"temperature": "hot"})", "temperature is \"hot\": a number"},
      {R"({"temperature": 1e39})", "temperature is 1e+39"},
      {R"({"top_p": 0})", "top_p is 0: a number above 0, up to 1"},
      {R"({"top_p": 1.5})", "top_p is 1.5"},
      {R"({"min_p": 2})", "min_p is 2"},
      {R"({"top_k": 2.5})", "top_k is 2.5"},
      {R"({"top_k": -2})", "top_k is -2"},
      {R"({"repetition_penalty": 0})", "repetition_penalty is 0"},
      {R"({"do_sample": 1})", "do_sample is 1: true or false"},
      {R"({"eos_token_id": [1, -1]})", "eos_token_id[1] is -1"},
      {R"({"eos_token_id": 3000000000})", "eos_token_id is 3000000000"},
      {R"({"eos_token_id": "x"})", "eos_token_id is \"x\""},
  };
  for (const Case& c : cases) {
    const auto defaults = GenerationDefaults::Parse(c.bytes);
    EXPECT_EQ(defaults.status().code(), absl::StatusCode::kInvalidArgument) << c.bytes;
    EXPECT_THAT(std::string(defaults.status().message()), HasSubstr(c.message)) << c.bytes;
  }
}

TEST(EosTokenIdsTest, IsTheUnionOfEveryPlaceThatNamesOne) {
  const auto tokenizer = FixtureTokenizer();
  const auto eos = [&tokenizer](std::vector<int32_t> listed) {
    GenerationDefaults defaults;
    defaults.eos_token_ids = std::move(listed);
    return EosTokenIds(*tokenizer, defaults);
  };
  EXPECT_THAT(*eos({}), ElementsAre(967, 969));
  EXPECT_THAT(*eos({969}), ElementsAre(967, 969));
  EXPECT_THAT(*eos({5, 968}), ElementsAre(5, 967, 968, 969));
  const auto refused = eos({1000});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("eos_token_id holds 1000"));
}

}  // namespace
}  // namespace deltaserve
