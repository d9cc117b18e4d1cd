#include "router/text/detokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// The ids of the single-byte tokens of `bytes`.
std::vector<int32_t> ByteIds(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<int32_t> ids;
  for (const char byte : bytes) {
    for (int32_t id = 0; id < tokenizer.num_tokens(); ++id) {
      if (tokenizer.TokenBytes(id) == std::string_view(&byte, 1)) ids.push_back(id);
    }
  }
  EXPECT_EQ(ids.size(), bytes.size());
  return ids;
}

std::vector<std::string> Pieces(const Tokenizer& tokenizer, std::string_view bytes) {
  Detokenizer detokenizer(tokenizer, true);
  std::vector<std::string> pieces;
  for (const int32_t id : ByteIds(tokenizer, bytes)) pieces.push_back(detokenizer.Add(id));
  pieces.push_back(detokenizer.Finish());
  return pieces;
}

TEST(DetokenizerTest, WaitsForWholeCharacters) {
  const auto tokenizer = FixtureTokenizer();
  EXPECT_THAT(Pieces(*tokenizer, "a\xC3\xA9"), ElementsAre("a", "", "é", ""));
  EXPECT_THAT(Pieces(*tokenizer, "\xF0\x9F\x98\x81"), ElementsAre("", "", "", "😁", ""));
}

TEST(DetokenizerTest, EachMaximalBrokenPrefixIsOneReplacement) {
  const auto tokenizer = FixtureTokenizer();
  EXPECT_THAT(Pieces(*tokenizer, "\xF0\x9F\x98x"),
              ElementsAre("", "", "", std::string(kReplacement) + "x", ""));
  EXPECT_THAT(Pieces(*tokenizer, "\xF0\x9F\x98"), ElementsAre("", "", "", kReplacement));
  EXPECT_THAT(Pieces(*tokenizer, "\xFF\xC3"), ElementsAre(kReplacement, "", kReplacement));
  EXPECT_THAT(Pieces(*tokenizer, "\xE0\x80\x80"),
              ElementsAre("", std::string(kReplacement) + kReplacement, kReplacement, ""));
  EXPECT_THAT(Pieces(*tokenizer, "\xE6\xE6\x88\x91"), ElementsAre("", kReplacement, "", "我", ""));
}

TEST(DetokenizerTest, ASkippedTokenDoesNotBreakTheCharacterAroundIt) {
  const auto tokenizer = FixtureTokenizer();
  const std::vector<int32_t> halves = ByteIds(*tokenizer, "é");
  const int32_t im_end = *tokenizer->TokenId("<|im_end|>");
  Detokenizer skipping(*tokenizer, true);
  EXPECT_EQ(skipping.Add(halves[0]), "");
  EXPECT_TRUE(skipping.has_pending());
  EXPECT_EQ(skipping.Add(im_end), "");
  EXPECT_EQ(skipping.Add(halves[1]), "é");
  EXPECT_FALSE(skipping.has_pending());
  Detokenizer keeping(*tokenizer, false);
  EXPECT_EQ(keeping.Add(halves[0]), "");
  EXPECT_EQ(keeping.Add(im_end), std::string(kReplacement) + "<|im_end|>");
}

TEST(DetokenizerTest, TagsThatAreNotSpecialStay) {
  const auto tokenizer = FixtureTokenizer();
  Detokenizer detokenizer(*tokenizer, true);
  for (const char* tag :
       {"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>"}) {
    EXPECT_EQ(detokenizer.Add(*tokenizer->TokenId(tag)), tag);
  }
  EXPECT_EQ(detokenizer.Add(*tokenizer->TokenId("<|im_start|>")), "");
}

TEST(DetokenizerTest, FinishLeavesItAsNew) {
  const auto tokenizer = FixtureTokenizer();
  Detokenizer detokenizer(*tokenizer, true);
  detokenizer.Add(ByteIds(*tokenizer, "\xC3")[0]);
  EXPECT_EQ(detokenizer.Finish(), kReplacement);
  EXPECT_EQ(detokenizer.Add(ByteIds(*tokenizer, "a")[0]), "a");
  EXPECT_EQ(detokenizer.Finish(), "");
}

TEST(DetokenizerTest, AnIdWithoutTokenIsRefusedWholeAndEmptyInAStream) {
  const auto tokenizer = FixtureTokenizer();
  const std::vector<int32_t> ids = {0, 1000};
  const auto text = Decode(*tokenizer, ids, true);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.status().message()),
              HasSubstr("token id 1000 at index 1 has no token"));
  Detokenizer detokenizer(*tokenizer, true);
  EXPECT_EQ(detokenizer.Add(1000), "");
  EXPECT_EQ(detokenizer.Add(-1), "");
}

}  // namespace
}  // namespace deltaserve
