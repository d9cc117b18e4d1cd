// The tokenizer of deploy/demo-model gives the ids that transformers gives for the renderings in
// tests/data/demo_model, which tools/train/dump_renderings.py wrote.

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"

namespace deltaserve {
namespace {

std::string Bytes(const std::string& path) {
  std::ifstream stream(std::string(DELTASERVE_SOURCE_DIR) + "/" + path, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  EXPECT_TRUE(stream.good()) << path;
  return std::move(bytes).str();
}

class DemoModelTest : public testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Create(Bytes("deploy/demo-model/tokenizer.json"),
                                       Bytes("deploy/demo-model/tokenizer_config.json"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DemoModelTest, EncodesRenderedConversationsAsTransformersDoes) {
  std::istringstream lines(Bytes("tests/data/demo_model/renderings.jsonl"));
  int compared = 0;
  for (std::string text; std::getline(lines, text);) {
    const auto line = nlohmann::json::parse(text);
    if (line.contains("error")) continue;
    const auto rendered = line.at("text").get<std::string>();
    const auto ids = tokenizer_->Encode(rendered);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, line.at("ids").get<std::vector<int32_t>>()) << line.at("name");
    const auto decoded = Decode(*tokenizer_, *ids, /*skip_special=*/false);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, rendered) << line.at("name");
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

// Working and tool calls are text to whoever parses answers; the frame of messages is not.
TEST_F(DemoModelTest, MarksTheFrameAsSpecialAndTagsAsText) {
  for (const char* content : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) {
    const auto id = tokenizer_->TokenId(content);
    ASSERT_TRUE(id.has_value()) << content;
    EXPECT_TRUE(tokenizer_->IsSpecial(*id)) << content;
  }
  for (const char* content : {"<think>", "</think>", "<tool_call>", "</tool_call>"}) {
    const auto id = tokenizer_->TokenId(content);
    ASSERT_TRUE(id.has_value()) << content;
    EXPECT_FALSE(tokenizer_->IsSpecial(*id)) << content;
  }
}

TEST_F(DemoModelTest, EndsAnswersAtBothOfItsEndTokens) {
  const auto generation = nlohmann::json::parse(Bytes("deploy/demo-model/generation_config.json"));
  EXPECT_EQ(generation.at("eos_token_id").get<std::vector<int32_t>>(),
            (std::vector<int32_t>{*tokenizer_->TokenId("<|im_end|>"),
                                  *tokenizer_->TokenId("<|endoftext|>")}));
  EXPECT_EQ(tokenizer_->eos_token_id(), tokenizer_->TokenId("<|im_end|>"));
}

}  // namespace
}  // namespace deltaserve
