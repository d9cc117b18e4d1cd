#include "router/service/answer_text.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

constexpr char kLlama[] = "\xf0\x9f\xa6\x99";

class AnswerTextTest : public testing::Test {
 protected:
  v1::TokenEvent::Tokens Step(uint32_t first_index, const std::vector<int32_t>& ids) {
    v1::TokenEvent::Tokens tokens;
    tokens.set_first_index(first_index);
    for (const int32_t id : ids) tokens.add_ids(static_cast<uint32_t>(id));
    return tokens;
  }
  int32_t End() const { return *tokenizer_->TokenId("<|im_end|>"); }

  AnswerText Make(const AnswerTextOptions& options = {}) {
    return AnswerText(*tokenizer_, request_, options);
  }
  AnswerText::Part Add(AnswerText& answer, const std::vector<int32_t>& ids) {
    const auto part = answer.Add(Step(answer.num_tokens(), ids));
    EXPECT_TRUE(part.ok()) << part.status();
    return part.value_or(AnswerText::Part());
  }
  std::vector<int32_t> Ids(const std::string& text) const { return *tokenizer_->Encode(text); }

  // Everything that `text`, a token a step, becomes.
  struct Whole {
    std::string reasoning, text;
    uint32_t num_tokens = 0, num_reasoning = 0;
    std::optional<std::string> stop_string;
  };
  Whole All(const std::string& text, const AnswerTextOptions& options) {
    AnswerText answer = Make(options);
    Whole whole;
    const auto take = [&whole](const AnswerText::Part& part) {
      whole.reasoning += part.reasoning;
      whole.text += part.text;
    };
    for (const int32_t id : Ids(text)) {
      take(Add(answer, {id}));
      if (answer.stop_string().has_value()) break;
    }
    take(answer.Finish());
    whole.num_tokens = answer.num_tokens();
    whole.num_reasoning = answer.num_reasoning_tokens();
    whole.stop_string = answer.stop_string();
    return whole;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = FixtureTokenizer();
  v1::TokenRequest request_;
};

TEST_F(AnswerTextTest, ACharacterOfSeveralTokensComesWhole) {
  const std::vector<int32_t> ids = Ids(std::string("a") + kLlama + "z");
  ASSERT_GE(ids.size(), 5u);
  AnswerText answer = Make();
  std::string joined;
  for (size_t i = 0; i < ids.size(); ++i) {
    const AnswerText::Part part = Add(answer, {ids[i]});
    EXPECT_EQ(part.first_index, i);
    EXPECT_EQ(part.num_tokens, 1);
    EXPECT_TRUE(part.text.empty() || part.text == "a" || part.text == kLlama || part.text == "z");
    joined += part.text;
  }
  EXPECT_EQ(joined, std::string("a") + kLlama + "z");
  EXPECT_EQ(answer.Finish().text, "");
}

TEST_F(AnswerTextTest, AnUnfinishedCharacterEndsAsAReplacement) {
  AnswerText answer = Make();
  EXPECT_EQ(Add(answer, {Ids(kLlama)[0]}).text, "");
  const AnswerText::Part rest = answer.Finish();
  EXPECT_EQ(rest.text, "\xef\xbf\xbd");
  EXPECT_EQ(rest.first_index, 1u);
}

TEST_F(AnswerTextTest, WhatEndsTheAnswerHasTextOnlyWhereIncludeStopAsksForIt) {
  const std::vector<int32_t> ids = Ids("ab");
  request_.add_eos_token_ids(static_cast<uint32_t>(End()));
  request_.mutable_stop()->add_stop_token_ids(static_cast<uint32_t>(ids.back()));
  AnswerText answer = Make({.skip_special_tokens = false});
  EXPECT_EQ(Add(answer, {End()}).text, "");
  EXPECT_EQ(Add(answer, {ids.back()}).text, "");
  AnswerText including = Make({.skip_special_tokens = false, .include_stop = true});
  EXPECT_EQ(Add(including, {End()}).text, "<|im_end|>");
  EXPECT_NE(Add(including, {ids.back()}).text, "");
}

TEST_F(AnswerTextTest, AnIgnoredEosIsATokenLikeOthers) {
  request_.add_eos_token_ids(static_cast<uint32_t>(End()));
  request_.mutable_stop()->set_ignore_eos(true);
  AnswerText answer = Make({.skip_special_tokens = false});
  EXPECT_EQ(Add(answer, {End()}).text, "<|im_end|>");
  AnswerText skipping = Make();
  EXPECT_EQ(Add(skipping, {End()}).text, "");
}

TEST_F(AnswerTextTest, TokensThatAreMissingOrComeTwiceAreAnError) {
  AnswerText answer = Make();
  ASSERT_TRUE(answer.Add(Step(0, {1, 2})).ok());
  const absl::Status gap = answer.Add(Step(3, {1})).status();
  EXPECT_EQ(DetailOf(gap).code(), v1::ERROR_CODE_INTERNAL);
  EXPECT_THAT(std::string(gap.message()), HasSubstr("token 3 where token 2 was due"));
  EXPECT_FALSE(answer.Add(Step(1, {2})).ok());
}

TEST_F(AnswerTextTest, AContinuationGoesOnWithinACharacterAndSendsNothingTwice) {
  const std::vector<int32_t> ids = Ids(std::string("a") + kLlama);
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    request_.add_generated_ids(static_cast<uint32_t>(ids[i]));
  }
  AnswerText answer = Make();
  EXPECT_EQ(answer.Resume(request_).text, "a");
  EXPECT_EQ(answer.num_tokens(), ids.size() - 1);
  const AnswerText::Part part = Add(answer, {ids.back()});
  EXPECT_EQ(part.text, kLlama);
  EXPECT_EQ(part.first_index, ids.size() - 1);
}

TEST_F(AnswerTextTest, AStopStringEndsTheTextWhereverTokensMeet) {
  const AnswerTextOptions options{.stop_strings = {"never", "wor"}};
  const Whole whole = All("hello world and more", options);
  EXPECT_EQ(whole.text, "hello ");
  EXPECT_EQ(whole.stop_string, "wor");
  EXPECT_LT(whole.num_tokens, Ids("hello world and more").size());
  AnswerTextOptions including = options;
  including.include_stop = true;
  EXPECT_EQ(All("hello world and more", including).text, "hello wor");
  EXPECT_EQ(All("hello wo", options).text, "hello wo");  // held back, then let go
  EXPECT_EQ(All("hello wo", options).stop_string, std::nullopt);
}

// Speculation and chunks bring many tokens a step: those after the stop string do not count.
TEST_F(AnswerTextTest, TokensOfTheStepAfterAStopStringAreDropped) {
  const std::vector<int32_t> ids = Ids("hello world and more");
  AnswerText answer = Make({.stop_strings = {"world"}});
  const AnswerText::Part part = Add(answer, ids);
  EXPECT_EQ(part.text, "hello ");
  EXPECT_LT(part.num_tokens, static_cast<int>(ids.size()));
  EXPECT_EQ(answer.num_tokens(), static_cast<uint32_t>(part.num_tokens));
  EXPECT_EQ(Add(answer, {1}).num_tokens, 0);
  EXPECT_EQ(answer.Finish().text, "");
}

TEST_F(AnswerTextTest, ReasoningIsToldApartAndItsTokensCounted) {
  const std::string text = "I see END\n</think>\n\nhello";
  const Whole whole = All(text, {.splits_reasoning = true, .starts_in_reasoning = true});
  EXPECT_EQ(whole.reasoning, "I see END");
  EXPECT_EQ(whole.text, "hello");
  EXPECT_EQ(whole.num_reasoning, Ids("I see END\n</think>").size());
  EXPECT_EQ(All("hello", {.splits_reasoning = true}).num_reasoning, 0u);
}

// lm-eval and others send stop strings that stand in every chain of thought.
TEST_F(AnswerTextTest, StopStringsSleepInsideOfReasoningUnlessAsked) {
  const std::string text = "I see END\n</think>\n\nhello END more";
  for (const bool splits : {true, false}) {
    AnswerTextOptions options{
        .stop_strings = {"END"}, .splits_reasoning = splits, .starts_in_reasoning = true};
    Whole whole = All(text, options);
    EXPECT_EQ(whole.text, splits ? "hello " : "I see END\n</think>\n\nhello ");
    EXPECT_EQ(whole.stop_string, "END");
    options.stop_in_reasoning = true;
    whole = All(text, options);
    EXPECT_EQ(splits ? whole.reasoning : whole.text, "I see ");
    EXPECT_EQ(splits ? whole.text : whole.reasoning, "");
    EXPECT_EQ(whole.stop_string, "END");
  }
  // Without a tag that opens it in the prompt, generated text opens it itself.
  EXPECT_EQ(All("<think>END</think>so END", {.stop_strings = {"END"}}).text,
            "<think>END</think>so ");
}

}  // namespace
}  // namespace deltaserve
