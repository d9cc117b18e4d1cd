#include "router/service/request_resolver.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "proto/text_digest.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A model of the fixture tokenizer with a context of 100 and this generation_config.
WorldFacts FactsWith(const std::string& generation_config) {
  const std::map<std::string, std::string> files = {
      {kTokenizerFile, FixtureBytes(kTokenizerFile)},
      {kTokenizerConfigFile, FixtureBytes(kTokenizerConfigFile)},
      {kGenerationConfigFile, generation_config}};
  WorldFacts facts;
  v1::ServedModel* model = facts.description.add_models();
  model->set_id("tiny");
  model->set_weights_fingerprint("abc");
  model->set_max_context(100);
  model->set_num_tokens(1000);
  model->add_eos_token_ids(7);
  facts.text = *ModelText::Make(files, TextDigest(files));
  return facts;
}

constexpr char kQwen[] = R"({"temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": 969})";
const ResolverDefaults kDefaults = {.max_tokens = 40, .seed = 77, .request_id = "drawn"};

TEST(RequestResolverTest, AbsentFieldsComeFromTheModelThenFromNeutralValues) {
  const auto request = Resolve({}, {1, 2, 3}, FactsWith(kQwen), kDefaults);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->request_id(), "drawn");
  EXPECT_EQ(request->model(), "tiny");
  EXPECT_EQ(request->expect_weights_fingerprint(), "abc");
  EXPECT_THAT(request->prompt_ids(), ElementsAre(1, 2, 3));
  const v1::SamplingParams& sampling = request->sampling();
  EXPECT_EQ(sampling.temperature(), 0.6F);
  EXPECT_EQ(sampling.top_k(), 20);
  EXPECT_EQ(sampling.top_p(), 0.95F);
  EXPECT_TRUE(sampling.has_min_p());
  EXPECT_EQ(sampling.min_p(), 0);
  EXPECT_EQ(sampling.repetition_penalty(), 1);
  EXPECT_TRUE(sampling.has_presence_penalty());
  EXPECT_TRUE(sampling.has_frequency_penalty());
  EXPECT_EQ(sampling.seed(), 77u);
  EXPECT_EQ(request->stop().max_tokens(), 40u);
  EXPECT_TRUE(request->stop().has_ignore_eos());
  EXPECT_FALSE(request->output().has_logprobs());
}

TEST(RequestResolverTest, WithoutAGenerationConfigAllIsNeutral) {
  const auto request = Resolve({}, {1}, FactsWith("{}"), kDefaults);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling().temperature(), 1);
  EXPECT_EQ(request->sampling().top_p(), 1);
  EXPECT_EQ(request->sampling().top_k(), 0);
}

TEST(RequestResolverTest, ZeroIsAValueAndNotAbsence) {
  v1::CallOptions options;
  options.set_request_id("mine");
  options.mutable_sampling()->set_temperature(0);
  options.mutable_sampling()->set_top_k(0);
  options.mutable_sampling()->set_seed(0);
  options.mutable_output()->set_logprobs(0);
  options.set_priority(-3);
  const auto request = Resolve(options, {1}, FactsWith(kQwen), kDefaults);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->request_id(), "mine");
  EXPECT_EQ(request->sampling().temperature(), 0);
  EXPECT_EQ(request->sampling().top_k(), 0);
  EXPECT_EQ(request->sampling().top_p(), 0.95F);
  EXPECT_EQ(request->sampling().seed(), 0u);
  EXPECT_TRUE(request->output().has_logprobs());
  EXPECT_EQ(request->priority(), -3);
}

TEST(RequestResolverTest, EosIsTheUnionOfWorldAndTextAndStopIdsAreDistinct) {
  v1::CallOptions options;
  for (const uint32_t id : {9, 4, 9}) options.mutable_stop()->add_stop_token_ids(id);
  const auto request = Resolve(options, {1}, FactsWith(kQwen), kDefaults);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->eos_token_ids(), ElementsAre(7, 967, 969));
  EXPECT_THAT(request->stop().stop_token_ids(), ElementsAre(4, 9));
}

TEST(RequestResolverTest, MaxTokensIsTheSmallerOfRoomAndDefault) {
  const std::vector<int32_t> prompt(90, 1);
  const auto request = Resolve({}, prompt, FactsWith(kQwen), kDefaults);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->stop().max_tokens(), 10u);
  v1::CallOptions options;
  options.mutable_stop()->set_max_tokens(10);  // just fits
  EXPECT_TRUE(Resolve(options, prompt, FactsWith(kQwen), kDefaults).ok());
}

TEST(RequestResolverTest, TooLongIsRefusedWithTheNumbers) {
  v1::CallOptions options;
  const absl::Status whole =
      Resolve(options, std::vector<int32_t>(100, 1), FactsWith(kQwen), kDefaults).status();
  EXPECT_EQ(DetailOf(whole).code(), v1::ERROR_CODE_CONTEXT_TOO_LONG);
  EXPECT_EQ(DetailOf(whole).field(), "prompt");
  EXPECT_EQ(std::string(whole.message()),
            "prompt has 100 tokens, and the context holds 100 with the answer; shorten the prompt "
            "to fewer than 100 tokens");
  options.mutable_stop()->set_max_tokens(11);
  const absl::Status both =
      Resolve(options, std::vector<int32_t>(90, 1), FactsWith(kQwen), kDefaults).status();
  EXPECT_EQ(DetailOf(both).field(), "stop.max_tokens");
  EXPECT_EQ(std::string(both.message()),
            "prompt has 90 tokens and stop.max_tokens is 11, together 101, and the context holds "
            "100; lower stop.max_tokens to 10 or shorten the prompt");
}

TEST(RequestResolverTest, AContinuationNeedsItsSeedAndRoomToGoOn) {
  v1::CallOptions options;
  options.mutable_continue_token_ids()->add_ids(5);
  const absl::Status seedless = Resolve(options, {1}, FactsWith(kQwen), kDefaults).status();
  EXPECT_EQ(DetailOf(seedless).field(), "sampling.seed");
  options.mutable_sampling()->set_seed(3);
  const auto request = Resolve(options, {1}, FactsWith(kQwen), kDefaults);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->generated_ids(), ElementsAre(5));
  options.mutable_stop()->set_max_tokens(1);
  const absl::Status full = Resolve(options, {1}, FactsWith(kQwen), kDefaults).status();
  EXPECT_EQ(DetailOf(full).field(), "continue_token_ids");
  v1::CallOptions greedy;
  greedy.mutable_continue_token_ids()->add_ids(5);
  greedy.mutable_sampling()->set_temperature(0);
  EXPECT_TRUE(Resolve(greedy, {1}, FactsWith(kQwen), kDefaults).ok());
}

TEST(RequestResolverTest, TheModelsRepetitionPenaltyHoldsWhereTheRequestHasNone) {
  const WorldFacts facts = FactsWith(R"({"repetition_penalty": 1.05})");
  EXPECT_EQ(Resolve({}, {1}, facts, kDefaults)->sampling().repetition_penalty(), 1.05F);
  v1::CallOptions options;
  options.mutable_sampling()->set_repetition_penalty(1);
  EXPECT_EQ(Resolve(options, {1}, facts, kDefaults)->sampling().repetition_penalty(), 1);
}

struct Refusal {
  std::string field;
  std::string message;  // a part of it
  v1::ErrorCode code;
  std::function<void(v1::CallOptions&)> spoil;
};

std::vector<Refusal> Refusals() {
  using O = v1::CallOptions;
  const auto bad = v1::ERROR_CODE_INVALID_FIELD;
  const auto none = v1::ERROR_CODE_UNSUPPORTED;
  return {
      {"request_id", "request_id must be at most 256 bytes, got 300 bytes", bad,
       [](O& o) { o.set_request_id(std::string(300, 'x')); }},
      {"sampling.temperature", "must be in [0, 2], got -1", bad,
       [](O& o) { o.mutable_sampling()->set_temperature(-1); }},
      {"sampling.top_p", "sampling.top_p must be in (0, 1], got 1.5; use 1 to turn it off", bad,
       [](O& o) { o.mutable_sampling()->set_top_p(1.5F); }},
      {"sampling.top_k", "must be -1 or more, got -5", bad,
       [](O& o) { o.mutable_sampling()->set_top_k(-5); }},
      {"sampling.min_p", "must be in [0, 1], got -0.5", bad,
       [](O& o) { o.mutable_sampling()->set_min_p(-0.5F); }},
      {"sampling.presence_penalty", "must be in [-2, 2], got -3", bad,
       [](O& o) { o.mutable_sampling()->set_presence_penalty(-3); }},
      {"sampling.frequency_penalty", "must be in [-2, 2], got 2.5", bad,
       [](O& o) { o.mutable_sampling()->set_frequency_penalty(2.5F); }},
      {"sampling.logit_bias[1].token_id", "an id that no other entry has, got 0", bad,
       [](O& o) {
         o.mutable_sampling()->add_logit_bias()->set_bias(1);
         o.mutable_sampling()->add_logit_bias()->set_bias(2);
       }},
      {"sampling.allowed_token_ids", "got 0 ids; name ids", bad,
       [](O& o) { o.mutable_sampling()->mutable_allowed_token_ids(); }},
      {"sampling.allowed_token_ids[0]", "must be below 1000, got 1000", bad,
       [](O& o) { o.mutable_sampling()->mutable_allowed_token_ids()->add_ids(1000); }},
      {"sampling.allowed_token_ids", "ids of which some are not banned, got 1 ids", bad,
       [](O& o) {
         o.mutable_sampling()->mutable_allowed_token_ids()->add_ids(4);
         o.mutable_sampling()->add_banned_sequences()->add_ids(4);
       }},
      {"sampling.banned_sequences[0]", "must be 1 to 64 ids, got 0", bad,
       [](O& o) { o.mutable_sampling()->add_banned_sequences(); }},
      {"sampling.banned_sequences[0][1]", "must be below 1000, got 2000", bad,
       [](O& o) {
         auto* banned = o.mutable_sampling()->add_banned_sequences();
         banned->add_ids(4);
         banned->add_ids(2000);
       }},
      {"sampling.banned_sequences", "at most 4096 sequences, got 4097", bad,
       [](O& o) {
         for (int i = 0; i < 4097; ++i) o.mutable_sampling()->add_banned_sequences()->add_ids(1);
       }},
      {"stop.max_tokens", "must be 1 or more, got 0", bad,
       [](O& o) { o.mutable_stop()->set_max_tokens(0); }},
      {"stop.min_tokens", "must be at most max_tokens 3, got 4", bad,
       [](O& o) {
         o.mutable_stop()->set_max_tokens(3);
         o.mutable_stop()->set_min_tokens(4);
       }},
      {"stop.stop_token_ids[1]", "must be below 1000, got 5000", bad,
       [](O& o) {
         o.mutable_stop()->add_stop_token_ids(1);
         o.mutable_stop()->add_stop_token_ids(5000);
       }},
      {"output.logprobs", "must be in [0, 20], got 25", bad,
       [](O& o) { o.mutable_output()->set_logprobs(25); }},
      {"output.prompt_logprobs", "must be in [0, 20], got 21", bad,
       [](O& o) { o.mutable_output()->set_prompt_logprobs(21); }},
      {"output.logprob_token_ids[0]", "must be below 1000, got 1000", bad,
       [](O& o) { o.mutable_output()->add_logprob_token_ids(1000); }},
      {"output.logprob_token_ids", "at most 128 ids, got 129 ids", bad,
       [](O& o) {
         for (int i = 0; i < 129; ++i) o.mutable_output()->add_logprob_token_ids(1);
       }},
      {"stop_strings[0]", "got an empty string", bad, [](O& o) { o.add_stop_strings(""); }},
      {"stop_strings", "got 17", bad,
       [](O& o) {
         for (int i = 0; i < 17; ++i) o.add_stop_strings("x");
       }},
      {"stop_strings[1]", "1024", bad,
       [](O& o) {
         o.add_stop_strings("x");
         o.add_stop_strings(std::string(1025, 'x'));
       }},
      {"n", "n must be in [1, 128], got 0; leave it out for one answer", bad,
       [](O& o) { o.set_n(0); }},
      {"n", "n must be in [1, 128], got 129; send more requests, each with a seed of its own", bad,
       [](O& o) { o.set_n(129); }},
      {"n", "n must be 1 with continue_token_ids, got 2; continue each answer by", bad,
       [](O& o) {
         o.set_n(2);
         o.mutable_continue_token_ids()->add_ids(1);
       }},
      {"continue_choice", "continue_choice must be in [0, 128), got 128; send the number", bad,
       [](O& o) {
         o.set_continue_choice(128);
         o.mutable_continue_token_ids()->add_ids(1);
       }},
      {"continue_choice", "there are no continue_token_ids", bad,
       [](O& o) { o.set_continue_choice(1); }},
      {"constraint.json_schema", "leave constraint out", none,
       [](O& o) { o.mutable_constraint()->set_json_schema("{}"); }},
      {"speculation.max_draft_tokens", "set it to 0", none,
       [](O& o) { o.mutable_speculation()->set_max_draft_tokens(2); }},
      {"adapter", "leave it out", none, [](O& o) { o.set_adapter("lora"); }},
      {"continue_token_ids[0]", "must be below 1000, got 1000", bad,
       [](O& o) { o.mutable_continue_token_ids()->add_ids(1000); }},
  };
}

TEST(RequestResolverTest, RefusesEachBadFieldByItsName) {
  for (const Refusal& refusal : Refusals()) {
    SCOPED_TRACE(refusal.field + ": " + refusal.message);
    v1::CallOptions options;
    refusal.spoil(options);
    const absl::Status status = CheckOptions(options, 1000);
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message));
    EXPECT_EQ(DetailOf(status).field(), refusal.field);
    EXPECT_EQ(DetailOf(status).code(), refusal.code);
    EXPECT_FALSE(DetailOf(status).remedy().empty());
  }
}

// What only the defaults and the world decide.
TEST(RequestResolverTest, SeveralAnswersNeedATemperatureAndPlacesInTheWorld) {
  WorldFacts facts = FactsWith(kQwen);
  facts.description.mutable_capacity()->set_slots(4);
  facts.description.mutable_capacity()->set_max_queue(6);
  facts.description.mutable_capacity()->set_max_queue_tokens(100);
  v1::CallOptions options;
  options.set_n(10);
  EXPECT_TRUE(Resolve(options, {1}, facts, kDefaults).ok());
  options.set_n(11);
  const absl::Status crowd = Resolve(options, {1}, facts, kDefaults).status();
  EXPECT_EQ(DetailOf(crowd).field(), "n");
  EXPECT_EQ(std::string(crowd.message()),
            "n must be at most 10, the 4 slots and 6 queue places of the world, got 11; ask for "
            "fewer answers at a time");
  const std::vector<int32_t> prompt(30, 1);
  options.set_n(7);
  EXPECT_TRUE(Resolve(options, prompt, facts, kDefaults).ok());
  options.set_n(8);
  const absl::Status large = Resolve(options, prompt, facts, kDefaults).status();
  EXPECT_EQ(DetailOf(large).field(), "n");
  EXPECT_EQ(std::string(large.message()),
            "n must be at most 7 for a prompt of 30 tokens: the world has 4 slots and its queue "
            "holds 100 tokens, got 8; ask for fewer answers at a time");
  options.set_n(2);
  options.mutable_sampling()->set_temperature(0);
  const absl::Status greedy = Resolve(options, {1}, facts, kDefaults).status();
  EXPECT_EQ(DetailOf(greedy).field(), "n");
  EXPECT_EQ(std::string(greedy.message()),
            "n must be 1 where sampling.temperature is 0, got 2; all answers would be the same: "
            "raise sampling.temperature or leave n out");
  // The model's default is as good as the client's word.
  WorldFacts cold = FactsWith(R"({"temperature": 0})");
  *cold.description.mutable_capacity() = facts.description.capacity();
  options.clear_sampling();
  EXPECT_EQ(DetailOf(Resolve(options, {1}, cold, kDefaults).status()).field(), "n");
  options.set_n(1);
  EXPECT_TRUE(Resolve(options, {1}, cold, kDefaults).ok());
}

TEST(RequestResolverTest, NeutralValuesOfFeaturesThatAreNotThereAreTaken) {
  v1::CallOptions options;
  options.set_n(1);
  options.mutable_stop()->set_min_tokens(0);
  options.mutable_speculation()->set_max_draft_tokens(0);
  options.mutable_constraint();
  options.mutable_sampling()->set_presence_penalty(0);
  options.mutable_sampling()->set_repetition_penalty(1);
  options.set_session_id("s");
  options.set_cache_salt("tenant");
  EXPECT_TRUE(CheckOptions(options, 1000).ok());
}

}  // namespace
}  // namespace deltaserve
