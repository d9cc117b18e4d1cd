#include "worker/service/request_reader.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/worker/service/fake_engine.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorldInfo Info() {
  WorldInfo info;
  info.model_id = "tiny";
  info.weights_fingerprint = "abc";
  return info;
}

v1::TokenRequest Good() {
  v1::TokenRequest request;
  request.set_request_id("r1");
  request.add_prompt_ids(5);
  request.add_prompt_ids(999);
  request.mutable_sampling()->set_seed(7);
  request.mutable_stop()->set_max_tokens(10);
  return request;
}

TEST(RequestReaderTest, CarriesEveryFieldOver) {
  v1::TokenRequest message = Good();
  message.set_model("tiny");
  message.set_expect_weights_fingerprint("abc");
  message.add_generated_ids(3);
  message.mutable_sampling()->set_temperature(0.5F);
  message.mutable_sampling()->set_top_p(0.25F);
  message.mutable_sampling()->set_top_k(-1);
  message.mutable_sampling()->set_min_p(0.125F);
  message.mutable_stop()->add_stop_token_ids(8);
  message.mutable_stop()->set_ignore_eos(true);
  message.add_eos_token_ids(9);
  message.mutable_output()->set_logprobs(0);
  message.set_sample_index(2);
  message.set_priority(-4);
  const FakeEngine engine;
  const absl::StatusOr<Request> request = ReadRequest(message, Info(), engine.capacity());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->id, "r1");
  EXPECT_THAT(request->prompt, ElementsAre(5, 999));
  EXPECT_THAT(request->generated, ElementsAre(3));
  EXPECT_EQ(request->sampling.temperature, 0.5F);
  EXPECT_EQ(request->sampling.top_p, 0.25F);
  EXPECT_EQ(request->sampling.top_k, -1);
  EXPECT_EQ(request->sampling.min_p, 0.125F);
  EXPECT_EQ(request->sampling.seed, 7u);
  EXPECT_EQ(request->sample_index, 2u);
  EXPECT_EQ(request->max_tokens, 10u);
  EXPECT_THAT(request->stop_token_ids, ElementsAre(8));
  EXPECT_THAT(request->eos_token_ids, ElementsAre(9));
  EXPECT_TRUE(request->ignore_eos);
  EXPECT_EQ(request->logprobs, std::optional<uint32_t>(0));
  EXPECT_EQ(request->priority, -4);
}

TEST(RequestReaderTest, AbsentSamplingFieldsAreNeutral) {
  const FakeEngine engine;
  const absl::StatusOr<Request> request = ReadRequest(Good(), Info(), engine.capacity());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling.temperature, 1);
  EXPECT_EQ(request->sampling.top_p, 1);
  EXPECT_EQ(request->sampling.top_k, 0);
  EXPECT_EQ(request->sampling.min_p, 0);
  EXPECT_EQ(request->logprobs, std::nullopt);
}

TEST(RequestReaderTest, NeutralValuesOfFeaturesThatAreNotThereAreTaken) {
  v1::TokenRequest message = Good();
  message.mutable_sampling()->set_presence_penalty(0);
  message.mutable_sampling()->set_frequency_penalty(0);
  message.mutable_sampling()->set_repetition_penalty(1);
  message.mutable_stop()->set_min_tokens(0);
  message.mutable_speculation()->set_max_draft_tokens(0);
  message.mutable_constraint();
  message.set_cache_salt("tenant");  // nothing is shared between requests anyway
  const FakeEngine engine;
  EXPECT_TRUE(ReadRequest(message, Info(), engine.capacity()).ok());
}

TEST(RequestReaderTest, ReadsTheRules) {
  v1::TokenRequest message = Good();
  v1::SamplingParams* sampling = message.mutable_sampling();
  sampling->set_presence_penalty(0.5F);
  sampling->set_frequency_penalty(-0.25F);
  sampling->set_repetition_penalty(1.5F);
  for (const uint32_t id : {7u, 3u, 5u}) {
    v1::LogitBias* bias = sampling->add_logit_bias();
    bias->set_token_id(id);
    bias->set_bias(id == 5 ? 0 : static_cast<float>(id));
  }
  sampling->mutable_allowed_token_ids()->add_ids(4);
  sampling->add_banned_sequences()->add_ids(6);
  message.mutable_stop()->set_min_tokens(2);
  message.mutable_stop()->set_ignore_eos(false);
  message.add_eos_token_ids(11);
  message.mutable_stop()->add_stop_token_ids(12);
  const FakeEngine engine;
  LogitRules expected{.presence_penalty = 0.5F,
                      .frequency_penalty = -0.25F,
                      .repetition_penalty = 1.5F,
                      .bias = {{3, 3.0F}, {7, 7.0F}},
                      .allows_some = true,
                      .allowed = {4},
                      .banned = {{6}},
                      .min_tokens = 2};
  expected.ends.assign(message.stop().stop_token_ids().begin(),
                       message.stop().stop_token_ids().end());
  expected.ends.insert(expected.ends.end(), message.eos_token_ids().begin(),
                       message.eos_token_ids().end());
  EXPECT_TRUE(ReadRequest(message, Info(), engine.capacity())->rules == expected);
  // What no token could end has no least length, and neutral values are no rules.
  v1::TokenRequest plain = Good();
  plain.mutable_stop()->set_min_tokens(2);
  plain.mutable_stop()->set_ignore_eos(true);
  plain.mutable_stop()->clear_stop_token_ids();
  EXPECT_TRUE(ReadRequest(plain, Info(), engine.capacity())->rules.empty());
}

struct Refusal {
  std::string field;
  std::string message;  // a part of it
  v1::ErrorCode code;
  std::function<void(v1::TokenRequest&)> spoil;
};

std::vector<Refusal> Refusals() {
  using R = v1::TokenRequest;
  const auto bad = v1::ERROR_CODE_INVALID_FIELD;
  const auto none = v1::ERROR_CODE_UNSUPPORTED;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  return {
      {"request_id", "at most 256 bytes, got 257 bytes", bad,
       [](R& r) { r.set_request_id(std::string(257, 'x')); }},
      {"model", "model other is not served here; name tiny", v1::ERROR_CODE_MODEL_NOT_FOUND,
       [](R& r) { r.set_model("other"); }},
      {"expect_weights_fingerprint", "this world serves weights abc", bad,
       [](R& r) { r.set_expect_weights_fingerprint("xyz"); }},
      {"prompt_ids", "prompt_ids must be 1 id or more", bad, [](R& r) { r.clear_prompt_ids(); }},
      {"prompt_ids[1]", "prompt_ids[1] must be below 1000, got 1000", bad,
       [](R& r) { r.set_prompt_ids(1, 1000); }},
      {"prompt_ids[0]", "got 4294967295", bad, [](R& r) { r.set_prompt_ids(0, 0xffffffffu); }},
      {"generated_ids[0]", "got 1001", bad, [](R& r) { r.add_generated_ids(1001); }},
      {"generated_ids", "max_tokens 10 leaves nothing to generate", bad,
       [](R& r) {
         for (int i = 0; i < 10; ++i) r.add_generated_ids(1);
       }},
      {"eos_token_ids[0]", "got 1000", bad, [](R& r) { r.add_eos_token_ids(1000); }},
      {"sampling.temperature", "sampling.temperature must be in [0, 2], got 2.5", bad,
       [](R& r) { r.mutable_sampling()->set_temperature(2.5F); }},
      {"sampling.temperature", "got nan", bad,
       [nan](R& r) { r.mutable_sampling()->set_temperature(nan); }},
      {"sampling.top_p", "sampling.top_p must be in (0, 1], got 0; use 1 to turn it off", bad,
       [](R& r) { r.mutable_sampling()->set_top_p(0); }},
      {"sampling.top_k", "must be -1 or more, got -2", bad,
       [](R& r) { r.mutable_sampling()->set_top_k(-2); }},
      {"sampling.min_p", "must be in [0, 1], got 1.5", bad,
       [](R& r) { r.mutable_sampling()->set_min_p(1.5F); }},
      {"sampling.seed", "a world draws no seeds", bad,
       [](R& r) { r.mutable_sampling()->clear_seed(); }},
      {"sampling.presence_penalty", "must be in [-2, 2], got 3", bad,
       [](R& r) { r.mutable_sampling()->set_presence_penalty(3); }},
      {"sampling.frequency_penalty", "must be in [-2, 2], got -3", bad,
       [](R& r) { r.mutable_sampling()->set_frequency_penalty(-3); }},
      {"sampling.repetition_penalty", "must be finite and above 0, got 0", bad,
       [](R& r) { r.mutable_sampling()->set_repetition_penalty(0); }},
      {"sampling.logit_bias[0].token_id", "got 1000", bad,
       [](R& r) { r.mutable_sampling()->add_logit_bias()->set_token_id(1000); }},
      {"sampling.logit_bias[0].bias", "must be in [-100, 100], got 101", bad,
       [](R& r) { r.mutable_sampling()->add_logit_bias()->set_bias(101); }},
      {"sampling.allowed_token_ids", "name ids", bad,
       [](R& r) { r.mutable_sampling()->mutable_allowed_token_ids(); }},
      {"sampling.banned_sequences[0]", "must be 1 to 64 ids, got 0", bad,
       [](R& r) { r.mutable_sampling()->add_banned_sequences(); }},
      {"stop.max_tokens", "a world chooses no length", bad,
       [](R& r) { r.mutable_stop()->clear_max_tokens(); }},
      {"stop.max_tokens", "must be 1 or more, got 0", bad,
       [](R& r) { r.mutable_stop()->set_max_tokens(0); }},
      {"stop.min_tokens", "must be at most max_tokens 10, got 11", bad,
       [](R& r) { r.mutable_stop()->set_min_tokens(11); }},
      {"stop.stop_token_ids[0]", "must be below 1000, got 1000", bad,
       [](R& r) { r.mutable_stop()->add_stop_token_ids(1000); }},
      {"output.logprobs", "must be in [0, 20], got 21", bad,
       [](R& r) { r.mutable_output()->set_logprobs(21); }},
      {"output.prompt_logprobs", "must be in [0, 20], got 21", bad,
       [](R& r) { r.mutable_output()->set_prompt_logprobs(21); }},
      {"output.logprob_token_ids[1]", "must be below 1000, got 1000", bad,
       [](R& r) {
         r.mutable_output()->add_logprob_token_ids(999);
         r.mutable_output()->add_logprob_token_ids(1000);
       }},
      {"constraint.regex", "constrained decoding is not part", none,
       [](R& r) { r.mutable_constraint()->set_regex("a+"); }},
      {"constraint.json_object", "leave constraint out", none,
       [](R& r) { r.mutable_constraint()->set_json_object(true); }},
      {"forced_exit.watch_token_ids[0]", "must be below 1000, got 1000", bad,
       [](R& r) { r.mutable_forced_exit()->add_watch_token_ids(1000); }},
      {"forced_exit.force_token_ids[1]", "must be below 1000, got 5000", bad,
       [](R& r) {
         r.mutable_forced_exit()->add_force_token_ids(1);
         r.mutable_forced_exit()->add_force_token_ids(5000);
       }},
      {"speculation.max_draft_tokens", "set it to 0", none,
       [](R& r) { r.mutable_speculation()->set_max_draft_tokens(3); }},
      {"adapter", "adapters are not part", none, [](R& r) { r.set_adapter("lora"); }},
  };
}

TEST(RequestReaderTest, NamedIdsAreKeptOnceAndAskForLogprobs) {
  v1::TokenRequest message = Good();
  const FakeEngine engine;
  for (const uint32_t id : {9U, 3U, 9U, 999U, 3U}) {
    message.mutable_output()->add_logprob_token_ids(id);
  }
  message.mutable_output()->set_prompt_logprobs(0);
  absl::StatusOr<Request> request = ReadRequest(message, Info(), engine.capacity());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->logprob_ids, ElementsAre(9, 3, 999));
  EXPECT_EQ(request->logprobs, 0u);
  EXPECT_EQ(request->prompt_logprobs, 0u);
  message.mutable_output()->set_logprobs(5);
  request = ReadRequest(message, Info(), engine.capacity());
  EXPECT_EQ(request->logprobs, 5u);
  message.mutable_output()->clear_prompt_logprobs();
  EXPECT_EQ(ReadRequest(message, Info(), engine.capacity())->prompt_logprobs, std::nullopt);
}

TEST(RequestReaderTest, RefusesEachBadFieldByItsName) {
  const FakeEngine engine;
  for (const Refusal& refusal : Refusals()) {
    SCOPED_TRACE(refusal.field + ": " + refusal.message);
    v1::TokenRequest message = Good();
    refusal.spoil(message);
    const absl::StatusOr<Request> request = ReadRequest(message, Info(), engine.capacity());
    ASSERT_FALSE(request.ok());
    EXPECT_THAT(std::string(request.status().message()), HasSubstr(refusal.message));
    const v1::ErrorDetail detail = DetailOf(request.status());
    EXPECT_EQ(detail.field(), refusal.field);
    EXPECT_EQ(detail.code(), refusal.code);
    EXPECT_FALSE(detail.remedy().empty());
    EXPECT_FALSE(detail.retryable());
    EXPECT_EQ(request.status().code(), CodeOf(refusal.code));
  }
}

}  // namespace
}  // namespace deltaserve
