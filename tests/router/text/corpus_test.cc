// Equality with `tokenizers` on everything that tests/data/tokenizer/make_corpus.py wrote.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/text/detokenizer.h"
#include "router/text/tokenizer.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

std::vector<int32_t> Ids(const nlohmann::json& line) {
  return line.at("ids").get<std::vector<int32_t>>();
}

// All pieces that a stream gives, joined; each must be whole UTF-8 by itself.
std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
  Detokenizer detokenizer(tokenizer, skip_special);
  std::string text;
  const auto take = [&text](const std::string& piece) {
    // dump() refuses what is not UTF-8, so that a split character ends the test.
    EXPECT_NO_THROW(nlohmann::json(piece).dump());
    text += piece;
  };
  for (const int32_t id : ids) take(detokenizer.Add(id));
  take(detokenizer.Finish());
  return text;
}

TEST(CorpusTest, EncodesAsTokenizersDoes) {
  const auto tokenizer = FixtureTokenizer();
  const std::vector<nlohmann::json> lines = FixtureLines("corpus.jsonl");
  EXPECT_GE(lines.size(), 800u);
  for (const nlohmann::json& line : lines) {
    const auto ids = tokenizer->Encode(line.at("text").get<std::string>());
    ASSERT_TRUE(ids.ok()) << ids.status() << " " << line.at("text");
    EXPECT_EQ(*ids, Ids(line)) << line.at("text");
  }
}

TEST(CorpusTest, DecodesAsTokenizersDoesWholeAndStreamed) {
  const auto tokenizer = FixtureTokenizer();
  for (const char* name : {"corpus.jsonl", "decode.jsonl"}) {
    for (const nlohmann::json& line : FixtureLines(name)) {
      const std::vector<int32_t> ids = Ids(line);
      for (const bool skip : {false, true}) {
        const std::string expected = line.at(skip ? "skipped" : "decoded").get<std::string>();
        const auto whole = Decode(*tokenizer, ids, skip);
        ASSERT_TRUE(whole.ok()) << whole.status();
        EXPECT_EQ(*whole, expected) << line;
        EXPECT_EQ(Stream(*tokenizer, ids, skip), expected) << line;
      }
    }
  }
}

TEST(CorpusTest, EncodesAsTokenizersDoesUnderEveryVariantOfTheFile) {
  const auto file = nlohmann::json::parse(FixtureBytes("tokenizer.json"));
  const std::vector<nlohmann::json> variants = FixtureLines("variants.jsonl");
  EXPECT_GE(variants.size(), 21u);
  for (const nlohmann::json& variant : variants) {
    const std::string bytes = file.patch(variant.at("patch")).dump();
    const auto tokenizer = Tokenizer::Create(bytes, "");
    ASSERT_TRUE(tokenizer.ok()) << variant.at("name") << ": " << tokenizer.status();
    for (const nlohmann::json& line : variant.at("cases")) {
      const auto ids = (*tokenizer)->Encode(line.at("text").get<std::string>());
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(*ids, Ids(line)) << variant.at("name") << ": " << line.at("text");
    }
  }
}

}  // namespace
}  // namespace deltaserve
