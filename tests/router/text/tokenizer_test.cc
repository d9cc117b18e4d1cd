#include "router/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "router/text/detokenizer.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

std::string Repeat(std::string_view text, size_t bytes) {
  std::string result;
  while (result.size() < bytes) result += text;
  return result;
}

TEST(TokenizerTest, KnowsTheTokensOfTheFixture) {
  const auto tokenizer = FixtureTokenizer();
  EXPECT_EQ(tokenizer->num_tokens(), 1000);
  EXPECT_EQ(tokenizer->TokenId("<|im_end|>"), 969);
  EXPECT_EQ(tokenizer->TokenBytes(969), "<|im_end|>");
  EXPECT_TRUE(tokenizer->IsSpecial(969));
  EXPECT_EQ(tokenizer->eos_token_id(), 969);
  const auto think = tokenizer->TokenId("<think>");
  ASSERT_TRUE(think.has_value());
  EXPECT_FALSE(tokenizer->IsSpecial(*think));
  EXPECT_EQ(tokenizer->TokenId("er"), std::nullopt);  // a token, but not an added one
  for (const int32_t id : {-1, 1000, INT32_MAX, INT32_MIN}) {
    EXPECT_FALSE(tokenizer->HasToken(id));
    EXPECT_EQ(tokenizer->TokenBytes(id), "");
    EXPECT_FALSE(tokenizer->IsSpecial(id));
  }
}

TEST(TokenizerTest, SingleByteTokensCoverEveryByte) {
  const auto tokenizer = FixtureTokenizer();
  std::string seen(256, '\0');
  for (int32_t id = 0; id < tokenizer->num_tokens(); ++id) {
    const std::string_view bytes = tokenizer->TokenBytes(id);
    ASSERT_FALSE(bytes.empty()) << id;
    if (bytes.size() == 1) ++seen[static_cast<uint8_t>(bytes[0])];
  }
  EXPECT_EQ(seen, std::string(256, '\1'));
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8WithTheOffset) {
  struct Case {
    std::string text;
    std::string offset;
  };
  const std::vector<Case> cases = {
      {"\x80", "at byte 0 of 1"},
      {"abc\xFF", "at byte 3 of 4"},
      {"abc\xC3", "at byte 3 of 4"},               // cut in a character
      {"\xE6\x88\x91\xE6\x88", "at byte 3 of 5"},  // the same
      {"a\xC0\xAF", "at byte 1 of 3"},             // overlong
      {"\xE0\x9F\xBF", "at byte 0 of 3"},          // overlong
      {"\xF0\x8F\xBF\xBF", "at byte 0 of 4"},      // overlong
      {"ok\xED\xA0\x80", "at byte 2 of 5"},        // surrogate
      {"\xF4\x90\x80\x80", "at byte 0 of 4"},      // above U+10FFFF
      {"<|im_end|>\xF8", "at byte 10 of 11"},
      {std::string("\0\xFE", 2), "at byte 1 of 2"},
  };
  const auto tokenizer = FixtureTokenizer();
  for (const Case& c : cases) {
    const auto ids = tokenizer->Encode(c.text);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(ids.status().message(), HasSubstr(c.offset));
  }
}

// What is quadratic in one of these takes 100 to 10,000 times as long: the longest of them takes
// about 0.3 s, the limit is for slow machines and sanitizers.
TEST(TokenizerTest, AMegabyteOfAnythingIsEncodedInSeconds) {
  const auto tokenizer = FixtureTokenizer();
  constexpr size_t kBytes = 1'000'000;
  constexpr std::chrono::seconds kLimit(20);
  for (const std::string_view unit : {"a",
                                      " ",
                                      "\n",
                                      " \n",
                                      "\r",
                                      "!",
                                      "1",
                                      "the ",
                                      "hello",
                                      "\xC3\xA9",
                                      "e\xCC\x81",
                                      "\xCC\x81\xCC\xA3",
                                      "\xE6\x88\x91",
                                      "<",
                                      "<|im_end|",
                                      "<|im_end|>",
                                      "<think> ",
                                      "'",
                                      "'s",
                                      "\xE1\x84\x80\xE1\x85\xA1",
                                      "\xF0\x9F\x98\x81",
                                      "\xE2\x80\x83",
                                      "x\xE2\x80\x83\xE2\x80\x83"}) {
    const std::string text = Repeat(unit, kBytes);
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer->Encode(text);
    const auto took = std::chrono::steady_clock::now() - start;
    ASSERT_TRUE(ids.ok()) << ids.status() << " " << unit;
    EXPECT_LT(took, kLimit) << testing::PrintToString(unit);
  }
}

TEST(TokenizerTest, ManyThreadsMayEncodeAtOnce) {
  const auto tokenizer = FixtureTokenizer();
  const std::vector<nlohmann::json> lines = FixtureLines("corpus.jsonl");
  std::vector<int> num_wrong(4);
  std::vector<std::thread> threads;
  threads.reserve(num_wrong.size());
  for (int& wrong : num_wrong) {
    threads.emplace_back([&tokenizer, &lines, &wrong] {
      for (const nlohmann::json& line : lines) {
        const auto ids = tokenizer->Encode(line.at("text").get<std::string>());
        if (!ids.ok() || *ids != line.at("ids").get<std::vector<int32_t>>()) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, std::vector<int>(4));
}

TEST(TokenizerTest, AddedTokensOfTheConfigAreAddedToThoseOfTheFile) {
  auto config = nlohmann::json::parse(FixtureBytes("tokenizer_config.json"));
  auto entry = config["added_tokens_decoder"]["969"];
  entry["content"] = "<|new|>";
  config["added_tokens_decoder"]["1003"] = entry;
  config["eos_token"] = {{"content", "<|new|>"}};
  const auto tokenizer = Tokenizer::Create(FixtureBytes("tokenizer.json"), config.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->num_tokens(), 1004);
  EXPECT_FALSE((*tokenizer)->HasToken(1002));
  EXPECT_TRUE((*tokenizer)->IsSpecial(1003));
  EXPECT_EQ((*tokenizer)->eos_token_id(), 1003);
  const auto ids = (*tokenizer)->Encode("a<|new|>b");
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), 3u);
  EXPECT_EQ((*ids)[1], 1003);
}

}  // namespace
}  // namespace deltaserve
