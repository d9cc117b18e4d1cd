#include "worker/checkpoint/text_files.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/checkpoint/checkpoint_fixture.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kGoodTokenizer[] =
    R"({"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 5, "content": "<|im_end|>"},
        {"id": 3, "content": "<|endoftext|>"}, {"id": 4, "content": "<think>"}]})";

TEST(TextFilesTest, CountsTokensAndJoinsTheEndTokensOfAllFiles) {
  const std::string folder = EmptyFolder();
  WriteBytes(folder + "/tokenizer.json", kGoodTokenizer);
  WriteBytes(folder + "/generation_config.json", R"({"eos_token_id": [5, 2]})");
  ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  config.eos_token_id = {1};
  const auto text = ReadTextFiles(folder, config);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->num_tokens, 6);
  EXPECT_THAT(text->eos_token_ids, ElementsAre(1, 2, 3, 5));
  EXPECT_EQ(text->files.size(), 2U);
  EXPECT_EQ(text->files.at("tokenizer.json"), kGoodTokenizer);
}

TEST(TextFilesTest, TheDigestFollowsNamesAndBytes) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const std::string folder = EmptyFolder();
  WriteBytes(folder + "/tokenizer.json", kGoodTokenizer);
  const auto one = ReadTextFiles(folder, config);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(ReadTextFiles(folder, config)->digest, one->digest);
  WriteBytes(folder + "/chat_template.jinja", "x");
  EXPECT_NE(ReadTextFiles(folder, config)->digest, one->digest);
}

TEST(TextFilesTest, AFolderWithoutTokenizerHasATokenForEveryRow) {
  const auto text = ReadTextFiles(EmptyFolder(), TinyConfig(ModelFamily::kQwen35));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->num_tokens, 71);
}

TEST(TextFilesTest, RefusesBadFilesByName) {
  const std::pair<const char*, std::pair<const char*, const char*>> rows[] = {
      {"tokenizer.json", {"{", "is not a JSON object"}},
      {"tokenizer.json", {"{}", "model.vocab is missing"}},
      {"tokenizer.json", {R"({"model": {"vocab": [1]}})", "model.vocab is missing"}},
      {"tokenizer.json", {R"({"model": {"vocab": {"a": "x"}}})", "an id that is not a whole"}},
      {"tokenizer.json",
       {R"({"model": {"vocab": {"a": 71}}})", "id 71 is not below vocab_size 71"}},
      {"tokenizer.json",
       {R"({"model": {"vocab": {}}, "added_tokens": [{"id": "5"}]})", "added_tokens has no id"}},
      {"tokenizer.json",
       {R"({"model": {"vocab": {}}, "added_tokens": [7]})", "added_tokens has no id"}},
      {"generation_config.json", {"[]", "is not a JSON object"}},
      {"generation_config.json", {R"({"eos_token_id": "x"})", "eos_token_id is \"x\""}},
      {"generation_config.json", {R"({"eos_token_id": [1, -1]})", "eos_token_id is [1,-1]"}},
  };
  for (const auto& [name, row] : rows) {
    const std::string folder = EmptyFolder();
    WriteBytes(folder + "/" + name, row.first);
    const auto text = ReadTextFiles(folder, TinyConfig(ModelFamily::kQwen35));
    ASSERT_FALSE(text.ok()) << row.first;
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(row.second));
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(name));
  }
}

}  // namespace
}  // namespace deltaserve
