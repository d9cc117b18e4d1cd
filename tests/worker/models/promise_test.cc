// Promise 2 of docs/architecture.md on real models: for one number of ranks, a request's tokens and
// log-probabilities do not depend on what runs beside it, on how its prompt is cut, on threads or
// on whether steps are launched ahead. No tolerance.

#include <algorithm>
#include <bit>
#include <random>

#include "gtest/gtest.h"
#include "tests/worker/engine/collecting_sink.h"
#include "tests/worker/models/model_world.h"

namespace deltaserve::test {
namespace {

constexpr int kNumRequests = 32;

// Request i: lengths around the 64 grid, every kind of sampling, many with log-probabilities of 3
// alternatives, some with those of named ids or of the prompt.
Request MakeRequest(uint32_t i) {
  constexpr size_t kLengths[] = {1, 5, 63, 64, 65, 100, 128, 129, 200, 321};
  std::mt19937 random(i);
  Request request;
  request.id = std::to_string(i);
  request.prompt.resize(kLengths[i % 10]);
  for (int32_t& id : request.prompt) id = static_cast<int32_t>(random() % 960);
  request.sampling.seed = i;
  request.sampling.temperature = i % 3 == 0 ? 0.0F : 0.8F;
  if (i % 3 == 2) request.sampling.top_k = 20;
  if (i % 4 == 1) request.sampling.top_p = 0.9F;
  request.max_tokens = 8 + i % 9;
  request.ignore_eos = true;
  if (i % 2 == 0) request.logprobs = 3;
  if (i % 4 == 0) request.logprob_ids = {959, static_cast<int32_t>(i)};
  if (i % 7 == 2) request.prompt_logprobs = 2;
  return request;
}

// Bit for bit.
void ExpectSame(const std::vector<TokenLogProb>& a, const std::vector<TokenLogProb>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(a[i].logprob), std::bit_cast<uint32_t>(b[i].logprob))
        << a[i].logprob << ", " << b[i].logprob;
    EXPECT_EQ(a[i].rank, b[i].rank);
    EXPECT_EQ(a[i].top, b[i].top);
  }
}

void ExpectSame(const CollectingSink::Received& a, const CollectingSink::Received& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  ExpectSame(a.logprobs, b.logprobs);
  ExpectSame(a.prompt_scores(), b.prompt_scores());
}

using Results = std::vector<CollectingSink::Received>;

// `alone`: each request ends before the next begins.
Results RunAll(const std::string& model, const Cut& cut, bool alone) {
  const auto world = StartModel(GoldenFolder(model), cut);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (uint32_t i = 0; i < kNumRequests; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    const auto ticket = world->engine().Submit(MakeRequest(i), sinks.back());
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    if (alone) sinks.back()->Wait();
  }
  Results results;
  for (const auto& sink : sinks) {
    results.push_back(sink->Wait());
    EXPECT_TRUE(results.back().ended.has_value());
  }
  return results;
}

struct PromiseCase {
  std::string model;
  int ranks;
};

class PromiseTest : public ::testing::TestWithParam<PromiseCase> {};

TEST_P(PromiseTest, BatchBudgetAndThreadsChangeNoBit) {
  const auto& [model, ranks] = GetParam();
  const Results alone = RunAll(model, {.ranks = ranks, .token_budget = 64}, true);
  std::vector<Cut> cuts = {{.ranks = ranks, .token_budget = 64},
                           {.ranks = ranks, .token_budget = 192},
                           {.ranks = ranks, .token_budget = 1024, .run_ahead = 1}};
  if (ranks == 1) cuts.push_back({.ranks = 1, .token_budget = 128, .threads_per_rank = 3});
  for (const Cut& cut : cuts) {
    const Results together = RunAll(model, cut, false);
    for (size_t i = 0; i < alone.size(); ++i) {
      SCOPED_TRACE(CutName(cut) + ", request " + std::to_string(i));
      ExpectSame(alone[i], together[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models,
                         PromiseTest,
                         ::testing::Values(PromiseCase{"moe-fused", 1},
                                           PromiseCase{"moe-fused", 2},
                                           PromiseCase{"moe-fused", 4},
                                           PromiseCase{"dense-flat", 1},
                                           PromiseCase{"dense-flat", 4},
                                           PromiseCase{"next", 2}),
                         [](const auto& param_info) {
                           std::string name = param_info.param.model + "_ranks" +
                                              std::to_string(param_info.param.ranks);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace deltaserve::test
