#include "worker/engine/request_check.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

EngineCapacity Capacity() {
  return {.kv_blocks = 16, .slots = 4, .max_context = 1000, .vocab_rows = 128, .num_tokens = 100};
}

Request Good() {
  Request request;
  request.prompt = {1, 2, 99};
  request.max_tokens = 10;
  return request;
}

TEST(RequestCheckTest, TakesWhatIsInRange) {
  EXPECT_TRUE(CheckRequest(Good(), Capacity(), false).ok());
  Request edges = Good();
  edges.sampling = {.temperature = 2, .top_p = 1, .top_k = -1, .min_p = 1};
  edges.logprobs = 20;
  edges.prompt_logprobs = 20;
  edges.logprob_ids.assign(128, 99);
  edges.generated.assign(10, 0);  // complete: ends at once
  edges.eos_token_ids = {120};    // padding: never sampled, harms nobody
  edges.logits_at = {0, 2};
  EXPECT_TRUE(CheckRequest(edges, Capacity(), true).ok());
  Request full = Good();
  full.max_tokens = 997;
  EXPECT_TRUE(CheckRequest(full, Capacity(), false).ok());
}

// Each is Good() with one mistake.
TEST(RequestCheckTest, NamesFieldValueAndRemedy) {
  struct Case {
    v1::ErrorCode code;
    const char* field;
    const char* value;
    const char* message;
    void (*spoil)(Request&);
  };
  constexpr v1::ErrorCode kInvalid = v1::ERROR_CODE_INVALID_FIELD;
  const std::vector<Case> cases = {
      {kInvalid, "prompt_ids", "empty", "send at least one token",
       [](Request& r) { r.prompt.clear(); }},
      {kInvalid, "prompt_ids[1]", "100", "use ids from 0 to 99",
       [](Request& r) { r.prompt[1] = 100; }},
      {kInvalid, "prompt_ids[2]", "-1", "no such token", [](Request& r) { r.prompt[2] = -1; }},
      {kInvalid, "generated_ids[0]", "127", "no such token",
       [](Request& r) { r.generated = {127}; }},
      {kInvalid, "generated_ids", "11 ids", "more than stop.max_tokens, which is 10",
       [](Request& r) { r.generated.assign(11, 1); }},
      {kInvalid, "stop.stop_token_ids[0]", "4000", "no such token",
       [](Request& r) { r.stop_token_ids = {4000}; }},
      {kInvalid, "stop.max_tokens", "0", "use 1 or more", [](Request& r) { r.max_tokens = 0; }},
      {kInvalid, "sampling.temperature", "-0.1", "use 0 (greedy)",
       [](Request& r) { r.sampling.temperature = -0.1f; }},
      {kInvalid, "sampling.temperature", "2.5", "to 2",
       [](Request& r) { r.sampling.temperature = 2.5f; }},
      {kInvalid, "sampling.temperature", "1e-06", "out of range",
       [](Request& r) { r.sampling.temperature = 1e-6f; }},
      {kInvalid, "sampling.temperature", "nan", "out of range",
       [](Request& r) { r.sampling.temperature = std::numeric_limits<float>::quiet_NaN(); }},
      {kInvalid, "sampling.top_p", "0", "more than 0", [](Request& r) { r.sampling.top_p = 0; }},
      {kInvalid, "sampling.top_p", "1.5", "at most 1", [](Request& r) { r.sampling.top_p = 1.5f; }},
      {kInvalid, "sampling.top_p", "nan", "out of range",
       [](Request& r) { r.sampling.top_p = std::numeric_limits<float>::quiet_NaN(); }},
      {kInvalid, "sampling.top_k", "-2", "0 or -1 for off",
       [](Request& r) { r.sampling.top_k = -2; }},
      {kInvalid, "sampling.min_p", "1.1", "use 0 (off) to 1",
       [](Request& r) { r.sampling.min_p = 1.1f; }},
      {kInvalid, "output.logprobs", "21", "use 0 to 20", [](Request& r) { r.logprobs = 21; }},
      {kInvalid, "output.prompt_logprobs", "21", "use 0 to 20",
       [](Request& r) { r.prompt_logprobs = 21; }},
      {kInvalid, "output.logprob_token_ids", "129 ids", "at most 128",
       [](Request& r) {
         r.logprobs = 0;
         r.logprob_ids.assign(129, 1);
       }},
      {kInvalid, "output.logprob_token_ids", "1 ids", "without logprobs",
       [](Request& r) { r.logprob_ids = {1}; }},
      {kInvalid, "output.logprob_token_ids[1]", "100", "use ids from 0 to 99",
       [](Request& r) {
         r.logprobs = 0;
         r.logprob_ids = {1, 100};
       }},
      {kInvalid, "logits_at[1]", "3", "from 0 to 2",
       [](Request& r) {
         r.logits_at = {0, 3};
       }},
      {kInvalid, "logits_at[1]", "1", "ascending",
       [](Request& r) {
         r.logits_at = {1, 1};
       }},
      {kInvalid, "logits_at[0]", "-1", "ascending", [](Request& r) { r.logits_at = {-1}; }},
      {v1::ERROR_CODE_CONTEXT_TOO_LONG, "stop.max_tokens", "998",
       "the prompt has 3 tokens and max_tokens is 998: together 1001, but this world holds 1000; "
       "use at most 997 max_tokens",
       [](Request& r) { r.max_tokens = 998; }},
      {v1::ERROR_CODE_CONTEXT_TOO_LONG, "stop.max_tokens", "10", "a prompt of at most 999 tokens",
       [](Request& r) { r.prompt.assign(1000, 1); }},
      {v1::ERROR_CODE_CONTEXT_TOO_LONG, "stop.max_tokens", "4294967295", "together 4294967298",
       [](Request& r) { r.max_tokens = std::numeric_limits<uint32_t>::max(); }},
  };
  for (const Case& wrong : cases) {
    Request request = Good();
    wrong.spoil(request);
    const absl::Status status = CheckRequest(request, Capacity(), true);
    const v1::ErrorDetail detail = DetailOf(status);
    EXPECT_EQ(detail.code(), wrong.code) << wrong.message;
    EXPECT_EQ(detail.field(), wrong.field);
    EXPECT_EQ(detail.value(), wrong.value);
    EXPECT_FALSE(detail.remedy().empty());
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.message));
  }
}

TEST(RequestCheckTest, LogitsAreForTheOfflineToolOnly) {
  Request request = Good();
  request.logits_at = {0};
  const absl::Status status = CheckRequest(request, Capacity(), false);
  EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_UNSUPPORTED);
  EXPECT_EQ(DetailOf(status).field(), "logits_at");
}

TEST(RequestCheckTest, CountsBlocksOfPromptAndAnswerTogether) {
  Request request = Good();
  request.max_tokens = 61;
  EXPECT_EQ(BlocksFor(request), 1);
  request.max_tokens = 62;
  EXPECT_EQ(BlocksFor(request), 2);
  request.generated.assign(62, 1);  // within max_tokens already
  EXPECT_EQ(BlocksFor(request), 2);
}

}  // namespace
}  // namespace deltaserve
