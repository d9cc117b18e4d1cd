#include "router/service/answer_text.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AnswerTextTest : public testing::Test {
 protected:
  v1::TokenEvent::Tokens Step(uint32_t first_index, const std::vector<int32_t>& ids) {
    v1::TokenEvent::Tokens tokens;
    tokens.set_first_index(first_index);
    for (const int32_t id : ids) tokens.add_ids(static_cast<uint32_t>(id));
    return tokens;
  }
  int32_t End() const { return *tokenizer_->TokenId("<|im_end|>"); }

  const std::unique_ptr<Tokenizer> tokenizer_ = FixtureTokenizer();
  v1::TokenRequest request_;
};

TEST_F(AnswerTextTest, ACharacterOfSeveralTokensComesWhole) {
  const std::string text = "a\xf0\x9f\xa6\x99z";  // a llama between letters
  const std::vector<int32_t> ids = *tokenizer_->Encode(text);
  ASSERT_GE(ids.size(), 5u);
  AnswerText answer(*tokenizer_, request_, true, false);
  std::string joined;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto delta = answer.Add(Step(static_cast<uint32_t>(i), {ids[i]}));
    ASSERT_TRUE(delta.ok());
    if (!delta->has_value()) continue;  // bytes of a character that is not whole yet
    EXPECT_EQ((*delta)->first_index(), i);
    EXPECT_TRUE((*delta)->text() == "a" || (*delta)->text() == "\xf0\x9f\xa6\x99" ||
                (*delta)->text() == "z");
    joined += (*delta)->text();
  }
  EXPECT_EQ(joined, text);
  EXPECT_FALSE(answer.Finish().has_value());
}

TEST_F(AnswerTextTest, AnUnfinishedCharacterEndsAsAReplacement) {
  const std::vector<int32_t> ids = *tokenizer_->Encode("\xf0\x9f\xa6\x99");
  AnswerText answer(*tokenizer_, request_, true, false);
  const auto delta = answer.Add(Step(0, {ids[0]}));
  ASSERT_TRUE(delta.ok());
  EXPECT_FALSE(delta->has_value());
  const auto rest = answer.Finish();
  ASSERT_TRUE(rest.has_value());
  EXPECT_EQ(rest->text(), "\xef\xbf\xbd");
  EXPECT_EQ(rest->first_index(), 1u);
}

TEST_F(AnswerTextTest, WhatEndsTheAnswerHasNoTextEvenWhereSpecialTokensAreShown) {
  const std::vector<int32_t> ids = *tokenizer_->Encode("ab");
  request_.add_eos_token_ids(static_cast<uint32_t>(End()));
  request_.mutable_stop()->add_stop_token_ids(static_cast<uint32_t>(ids.back()));
  AnswerText answer(*tokenizer_, request_, /*skip_special_tokens=*/false, true);
  const auto eos = answer.Add(Step(0, {End()}));
  ASSERT_TRUE(eos.ok() && eos->has_value());
  EXPECT_EQ((*eos)->text(), "");
  EXPECT_THAT((*eos)->tokens().ids(), ElementsAre(End()));  // its id is there for who asked
  const auto stop = answer.Add(Step(1, {ids.back()}));
  ASSERT_TRUE(stop.ok() && stop->has_value());
  EXPECT_EQ((*stop)->text(), "");
}

TEST_F(AnswerTextTest, AnIgnoredEosIsATokenLikeOthers) {
  request_.add_eos_token_ids(static_cast<uint32_t>(End()));
  request_.mutable_stop()->set_ignore_eos(true);
  AnswerText answer(*tokenizer_, request_, /*skip_special_tokens=*/false, false);
  const auto delta = answer.Add(Step(0, {End()}));
  ASSERT_TRUE(delta.ok() && delta->has_value());
  EXPECT_EQ((*delta)->text(), "<|im_end|>");
  AnswerText skipping(*tokenizer_, request_, /*skip_special_tokens=*/true, false);
  EXPECT_FALSE(skipping.Add(Step(0, {End()}))->has_value());
}

TEST_F(AnswerTextTest, TokensThatAreMissingOrComeTwiceAreAnError) {
  AnswerText answer(*tokenizer_, request_, true, true);
  ASSERT_TRUE(answer.Add(Step(0, {1, 2})).ok());
  const absl::Status gap = answer.Add(Step(3, {1})).status();
  EXPECT_EQ(DetailOf(gap).code(), v1::ERROR_CODE_INTERNAL);
  EXPECT_THAT(std::string(gap.message()), HasSubstr("token 3 where token 2 was due"));
  EXPECT_FALSE(answer.Add(Step(1, {2})).ok());
}

TEST_F(AnswerTextTest, AContinuationGoesOnWithinACharacterAndSendsNothingTwice) {
  const std::vector<int32_t> ids = *tokenizer_->Encode("a\xf0\x9f\xa6\x99");
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    request_.add_generated_ids(static_cast<uint32_t>(ids[i]));
  }
  AnswerText answer(*tokenizer_, request_, true, true);
  EXPECT_EQ(answer.num_tokens(), ids.size() - 1);
  const auto delta = answer.Add(Step(static_cast<uint32_t>(ids.size() - 1), {ids.back()}));
  ASSERT_TRUE(delta.ok() && delta->has_value());
  EXPECT_EQ((*delta)->text(), "\xf0\x9f\xa6\x99");
  EXPECT_EQ((*delta)->first_index(), ids.size() - 1);
}

TEST_F(AnswerTextTest, ScoresTravelWithTheirTokens) {
  AnswerText answer(*tokenizer_, request_, true, false);
  v1::TokenEvent::Tokens step = Step(0, {End()});
  step.add_logprobs()->set_logprob(-1.5F);
  const auto delta = answer.Add(step);
  ASSERT_TRUE(delta.ok() && delta->has_value());
  ASSERT_EQ((*delta)->logprobs_size(), 1);
  EXPECT_EQ((*delta)->logprobs(0).logprob(), -1.5F);
  EXPECT_FALSE((*delta)->has_tokens());
}

}  // namespace
}  // namespace deltaserve
