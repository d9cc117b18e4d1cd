// Steps launched ahead of a device that works when somebody waits for it: memory of a step that the
// host gave up, wrote over or read too soon shows as another answer.

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/shim/shim_device.h"
#include "tests/worker/engine/collecting_sink.h"
#include "tests/worker/models/model_world.h"

namespace deltaserve::test {
namespace {

constexpr uint32_t kRequests = 10;

// Each with other things that travel besides its tokens.
Request Mixed(uint32_t i) {
  Request request;
  request.id = "request-" + std::to_string(i);
  for (uint32_t t = 0; t < 3 + 7 * i; ++t) {
    request.prompt.push_back(static_cast<int32_t>((t * 13 + i * 5) % 90));
  }
  request.max_tokens = 3 + i % 4;
  request.ignore_eos = true;
  request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
  request.sampling.seed = i;
  if (i % 3 == 0) request.logprobs = i;
  if (i % 3 == 1) request.prompt_logprobs = 2;
  if (i == 3) request.logprob_ids = {4, 80};
  if (i == 2 || i == 6) request.rules.bias = {{7, 3.0F}, {9, -9.0F}};
  if (i == 4) request.rules.banned = {{1}, {2, 3}};
  if (i == 5 || i == 6) request.rules.repetition_penalty = 1.5F;
  if (i == 7) request.sampling.top_k = 5;
  if (i == 8) request.logits_at = {0, 20, 40};
  if (i == 9) {
    request.forced_exit = ForcedExit{.watch_ids = {20}, .after_tokens = 1, .force_ids = {7, 8}};
    request.logprobs = 1;
  }
  return request;
}

std::vector<CollectingSink::Received> Answers(int run_ahead) {
  const auto world =
      StartModel(GoldenFolder("moe-fused"), {.run_ahead = run_ahead, .over_shim = true});
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (uint32_t i = 0; i < kRequests; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto ticket = world->engine().Submit(Mixed(i), sinks.back());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
  }
  std::vector<CollectingSink::Received> answers;
  answers.reserve(kRequests);
  for (const auto& sink : sinks) answers.push_back(sink->Wait());
  return answers;
}

void ExpectScores(const std::vector<TokenLogProb>& got, const std::vector<TokenLogProb>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t t = 0; t < got.size(); ++t) {
    SCOPED_TRACE(t);
    EXPECT_EQ(got[t].id, expected[t].id);
    EXPECT_EQ(got[t].rank, expected[t].rank);
    EXPECT_EQ(got[t].logprob, expected[t].logprob);
    EXPECT_EQ(got[t].top, expected[t].top);
  }
}

TEST(RunAheadShimTest, ChangesNothingThatARequestGets) {
  if (cuda::CreateShimDevice() == nullptr) GTEST_SKIP() << "nvcc has the kernels";
  const auto expected = Answers(0);
  const auto got = Answers(1);
  for (size_t i = 0; i < kRequests; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(expected[i].tokens.size(), 3 + i % 4);
    EXPECT_EQ(got[i].tokens, expected[i].tokens);
    ExpectScores(got[i].logprobs, expected[i].logprobs);
    ExpectScores(got[i].prompt_scores(), expected[i].prompt_scores());
    EXPECT_EQ(got[i].logits, expected[i].logits);
  }
  EXPECT_EQ(expected[8].logits.size(), 3U);
  EXPECT_EQ(expected[9].logprobs.size(), 4U);
  EXPECT_EQ(expected[9].logprobs[1].id, 7);
}

}  // namespace
}  // namespace deltaserve::test
