// What requests get from engine, followers and executor, over PretendWorld with a model whose
// logits tell its history.

#include <algorithm>
#include <memory>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/random.h"
#include "proto/error.h"
#include "tests/worker/engine/small_world.h"

namespace deltaserve {
namespace {

// A mix of every kind of sampling, by number.
Request Mixed(uint32_t i) {
  Request request = Ask(i, 1 + (i * 37) % 200, 3 + i % 40);
  if (i % 5 == 1) request.sampling.temperature = 0.8f;
  if (i % 5 == 2) request.sampling = {.temperature = 1.2f, .top_k = 7, .seed = i};
  if (i % 5 == 3) request.sampling = {.temperature = 1, .top_p = 0.8f, .min_p = 0.1f, .seed = i};
  if (i % 3 == 0) request.logprobs = i % 6;
  request.sample_index = i % 2;
  return request;
}

void ExpectSame(const CollectingSink::Received& a, const CollectingSink::Received& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    EXPECT_EQ(a.logprobs[i].id, b.logprobs[i].id);
    EXPECT_EQ(a.logprobs[i].logprob, b.logprobs[i].logprob);
    EXPECT_EQ(a.logprobs[i].rank, b.logprobs[i].rank);
    EXPECT_EQ(a.logprobs[i].top, b.logprobs[i].top);
  }
}

class EngineRanksTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, EngineRanksTest, ::testing::Values(1, 2, 4));

TEST_P(EngineRanksTest, GreedyTokensFollowFromTheHistory) {
  auto world = Start(GetParam(), SmallEngine());
  for (const size_t length : {1u, 63u, 64u, 65u, 300u}) {
    const Request request = Ask(static_cast<uint32_t>(length), length, 70);
    const auto received = Submit(world->engine(), request)->Wait();
    EXPECT_EQ(received.tokens, FakeGreedy(request.prompt, 70, kModel.vocab_size)) << length;
    ASSERT_TRUE(received.ended.has_value());
    EXPECT_EQ(received.ended->reason, FinishReason::kLength);
    EXPECT_EQ(received.ended->prompt_tokens, length);
    EXPECT_EQ(received.ended->completion_tokens, 70u);
  }
  ExpectAllFree(*world, GetParam());
}

// Argmax of logit / temperature + noise, where noise is keyed by the token's index alone.
TEST_P(EngineRanksTest, SampledTokensFollowFromSeedSampleAndIndex) {
  auto world = Start(GetParam(), SmallEngine());
  for (const bool gathered : {false, true}) {
    Request request = Ask(21, 30, 25);
    request.sampling.temperature = 0.7f;
    request.sample_index = 3;
    if (gathered) request.logprobs = 1;
    std::vector<int32_t> history = request.prompt;
    for (uint32_t index = 0; index < request.max_tokens; ++index) {
      const std::vector<float> logits = FakeLogits(history, kModel.vocab_size);
      std::vector<float> values;
      for (uint32_t id = 0; id < logits.size(); ++id) {
        values.push_back(logits[id] / 0.7f + Gumbel(21, 3, index, id));
      }
      const auto best = std::max_element(values.begin(), values.end());
      history.push_back(static_cast<int32_t>(best - values.begin()));
    }
    const std::vector<int32_t> expected(history.begin() + 30, history.end());
    EXPECT_EQ(Submit(world->engine(), request)->Wait().tokens, expected);
    request.generated.assign(expected.begin(), expected.begin() + 9);
    EXPECT_EQ(Submit(world->engine(), request)->Wait().tokens,
              std::vector<int32_t>(expected.begin() + 9, expected.end()));
  }
}

TEST_P(EngineRanksTest, ABatchChangesNoTokenAndNoLogprob) {
  std::vector<CollectingSink::Received> alone;
  {
    auto world = Start(1, SmallEngine());
    for (uint32_t i = 0; i < 32; ++i) alone.push_back(Submit(world->engine(), Mixed(i))->Wait());
  }
  for (const int64_t budget : {64, 192, 1000}) {
    EngineOptions options = SmallEngine();
    options.slots = 32;
    options.kv_memory = 1000 * kBlockBytes;
    options.token_budget = budget;
    auto world = Start(GetParam(), options);
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (uint32_t i = 0; i < 32; ++i) sinks.push_back(Submit(world->engine(), Mixed(i)));
    for (uint32_t i = 0; i < 32; ++i) {
      SCOPED_TRACE(testing::Message() << "request " << i << ", budget " << budget);
      ExpectSame(sinks[i]->Wait(), alone[i]);
    }
    ExpectAllFree(*world, GetParam());
  }
}

TEST_P(EngineRanksTest, LogitsOfThePromptArriveWhole) {
  EngineOptions options = SmallEngine();
  options.prompt_logits = true;
  auto world = Start(GetParam(), options);
  Request request = Ask(5, 200, 2);
  for (int64_t position = 0; position < 70; ++position) request.logits_at.push_back(position);
  request.logits_at.push_back(130);
  request.logits_at.push_back(199);
  const auto received = Submit(world->engine(), request)->Wait();
  EXPECT_EQ(received.tokens, FakeGreedy(request.prompt, 2, kModel.vocab_size));
  ASSERT_EQ(received.logits.size(), request.logits_at.size());
  for (const auto& [position, row] : received.logits) {
    const std::span<const int32_t> history(request.prompt.data(),
                                           static_cast<size_t>(position) + 1);
    EXPECT_EQ(row, FakeLogits(history, kModel.vocab_size)) << position;
  }
  ExpectAllFree(*world, GetParam());
}

TEST_P(EngineRanksTest, ManyStreamsWithCancelsAndDeadlinesLeaveNothingBehind) {
  EngineOptions options = SmallEngine();
  options.kv_memory = 24 * kBlockBytes;  // fewer blocks than 8 slots can use
  auto world = Start(GetParam(), options);
  Engine& engine = world->engine();
  std::mt19937 random(7);
  struct Stream {
    Request request;
    uint64_t ticket;
    std::shared_ptr<CollectingSink> sink;
  };
  std::vector<Stream> streams;
  for (uint32_t i = 0; i < 32; ++i) {
    Stream stream{Ask(i, 1 + random() % 300, 50 + static_cast<uint32_t>(random() % 200)), 0,
                  std::make_shared<CollectingSink>()};
    stream.request.priority = static_cast<int32_t>(random() % 3);
    if (i % 4 == 1) {
      stream.request.deadline = absl::Now() + absl::Microseconds(random() % 20000);
    }
    const auto ticket = engine.Submit(stream.request, stream.sink);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    stream.ticket = *ticket;
    streams.push_back(std::move(stream));
  }
  for (size_t i = 2; i < streams.size(); i += 4) {
    streams[i].sink->WaitForTokens(random() % 4);
    engine.Cancel(streams[i].ticket);
    engine.Cancel(streams[i].ticket);
  }
  EXPECT_THAT(engine.Abort({"request-3", "nobody", "request-7"}),
              ::testing::IsSubsetOf({"request-3", "request-7"}));
  for (size_t i = 0; i < streams.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "stream " << i);
    const auto received = streams[i].sink->Wait();
    const auto expected = FakeGreedy(
        streams[i].request.prompt, static_cast<int64_t>(received.tokens.size()), kModel.vocab_size);
    EXPECT_EQ(received.tokens, expected);
    if (received.error.has_value()) {
      EXPECT_EQ(i % 4, 1u);
      EXPECT_EQ(DetailOf(*received.error).code(), v1::ERROR_CODE_DEADLINE);
    } else if (received.ended->reason == FinishReason::kCancelled) {
      EXPECT_TRUE(i % 4 == 2 || i == 3 || i == 7);
    } else {
      EXPECT_EQ(received.tokens.size(), streams[i].request.max_tokens);
    }
  }
  ExpectAllFree(*world, GetParam());
}

TEST_P(EngineRanksTest, WakesAfterBeingIdle) {
  EngineOptions options = SmallEngine();
  options.idle_after = absl::ZeroDuration();  // asleep after every request
  auto world = Start(GetParam(), options);
  for (uint32_t i = 0; i < 20; ++i) {
    const Request request = Ask(i, 5, 3);
    EXPECT_EQ(Submit(world->engine(), request)->Wait().tokens,
              FakeGreedy(request.prompt, 3, kModel.vocab_size));
  }
  ExpectAllFree(*world, GetParam());
}

TEST_P(EngineRanksTest, MeasuredBudgetGivesTheSameTokens) {
  EngineOptions options = SmallEngine();
  options.token_budget = 0;
  options.max_token_budget = 256;
  auto world = Start(GetParam(), options);
  EXPECT_GE(world->engine().capacity().kv_blocks, 1);
  const Request request = Ask(3, 900, 20);
  EXPECT_EQ(Submit(world->engine(), request)->Wait().tokens,
            FakeGreedy(request.prompt, 20, kModel.vocab_size));
  ExpectAllFree(*world, GetParam());
}

TEST(EngineTest, EndsAtEosAndAtStopTokens) {
  auto world = Start(1, SmallEngine());
  const Request plain = Ask(1, 20, 30);
  const std::vector<int32_t> tokens = FakeGreedy(plain.prompt, 30, kModel.vocab_size);
  const int32_t fifth = tokens[4];
  const auto first = std::find(tokens.begin(), tokens.end(), fifth) + 1;
  const std::vector<int32_t> until(tokens.begin(), first);

  Request eos = plain;
  eos.eos_token_ids = {fifth};
  auto received = Submit(world->engine(), eos)->Wait();
  EXPECT_EQ(received.tokens, until);
  EXPECT_EQ(received.ended->reason, FinishReason::kStop);
  EXPECT_EQ(received.ended->eos_token_id, fifth);
  EXPECT_EQ(received.ended->stop_token_id, std::nullopt);

  Request stop = eos;
  stop.ignore_eos = true;
  stop.stop_token_ids = {fifth};
  received = Submit(world->engine(), stop)->Wait();
  EXPECT_EQ(received.tokens, until);
  EXPECT_EQ(received.ended->stop_token_id, fifth);
  EXPECT_EQ(received.ended->eos_token_id, std::nullopt);

  Request ignoring = eos;
  ignoring.ignore_eos = true;
  EXPECT_EQ(Submit(world->engine(), ignoring)->Wait().tokens, tokens);
}

TEST(EngineTest, ResumesWithTheTokensThatWouldHaveCome) {
  auto world = Start(2, SmallEngine());
  for (uint32_t i = 0; i < 10; ++i) {
    Request request = Mixed(i);
    request.max_tokens = 20;
    const std::vector<int32_t> whole = Submit(world->engine(), request)->Wait().tokens;
    for (const size_t cut : {1u, 7u, 19u}) {
      Request rest = request;
      rest.generated.assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(cut));
      const auto received = Submit(world->engine(), rest)->Wait();
      EXPECT_EQ(received.tokens,
                std::vector<int32_t>(whole.begin() + static_cast<ptrdiff_t>(cut), whole.end()));
      EXPECT_EQ(received.ended->completion_tokens, 20u);
      EXPECT_EQ(received.ended->prompt_tokens, request.prompt.size());
    }
  }
}

// A thinking budget: the tokens before it are the model's, those that it forces follow, then the
// model goes on from them; sampled and scored rows alike, on every number of ranks.
TEST_P(EngineRanksTest, AForcedExitTakesItsPlace) {
  auto world = Start(GetParam(), SmallEngine());
  for (uint32_t i = 0; i < 10; ++i) {
    Request request = Mixed(i);
    request.max_tokens = 30;
    const std::vector<int32_t> free = Submit(world->engine(), request)->Wait().tokens;
    const std::vector<int32_t> forced = {3, 5, 3};
    request.forced_exit = ForcedExit{.watch_ids = {5}, .after_tokens = 9, .force_ids = forced};
    const bool closes_by_itself = std::find(free.begin(), free.begin() + 9, 5) != free.begin() + 9;
    const auto received = Submit(world->engine(), request)->Wait();
    ASSERT_EQ(received.tokens.size(), 30u);
    if (closes_by_itself) {
      EXPECT_EQ(received.tokens, free);
      continue;
    }
    EXPECT_TRUE(std::equal(free.begin(), free.begin() + 9, received.tokens.begin()));
    EXPECT_TRUE(std::equal(forced.begin(), forced.end(), received.tokens.begin() + 9));
    for (size_t at = 0; at < received.logprobs.size(); ++at) {
      EXPECT_EQ(received.logprobs[at].id, received.tokens[at]);
    }
    // What comes after is what the model says to a prompt that ends so.
    for (const size_t cut : {4u, 9u, 10u, 12u, 20u}) {
      Request rest = request;
      rest.generated.assign(received.tokens.begin(),
                            received.tokens.begin() + static_cast<ptrdiff_t>(cut));
      if (cut >= 12) rest.forced_exit.reset();
      EXPECT_EQ(Submit(world->engine(), rest)->Wait().tokens,
                std::vector<int32_t>(received.tokens.begin() + static_cast<ptrdiff_t>(cut),
                                     received.tokens.end()))
          << cut;
    }
  }
}

// Rules look at the whole answer, wherever it was made: resumed, in a batch, on other rank counts.
TEST_P(EngineRanksTest, RulesHoldForTheWholeAnswer) {
  auto world = Start(GetParam(), SmallEngine());
  auto one = Start(1, SmallEngine());
  for (uint32_t i = 0; i < 10; ++i) {
    SCOPED_TRACE(i);
    Request request = Mixed(i);
    request.max_tokens = 30;
    const std::vector<int32_t> free = Submit(one->engine(), request)->Wait().tokens;
    request.rules = {.presence_penalty = 1, .frequency_penalty = 0.5f, .repetition_penalty = 1.3f};
    request.rules.bias = {{2, 1.5f}};
    request.rules.banned = {{free[3]}, {free[6], free[7]}};
    const auto alone = Submit(one->engine(), request)->Wait();
    EXPECT_NE(alone.tokens, free);
    EXPECT_EQ(std::count(alone.tokens.begin(), alone.tokens.end(), free[3]), 0);
    // In company of requests without rules.
    const auto beside = Submit(world->engine(), Mixed(i + 1));
    const auto bound = Submit(world->engine(), request);
    EXPECT_EQ(bound->Wait().tokens, alone.tokens);
    beside->Wait();
    for (const size_t cut : {1u, 9u, 29u}) {
      Request rest = request;
      const auto middle = alone.tokens.begin() + static_cast<ptrdiff_t>(cut);
      rest.generated.assign(alone.tokens.begin(), middle);
      EXPECT_EQ(Submit(world->engine(), rest)->Wait().tokens,
                std::vector<int32_t>(middle, alone.tokens.end()))
          << cut;
    }
  }
}

TEST(EngineTest, AnswersAreAtLeastMinTokensLong) {
  auto world = Start(1, SmallEngine());
  Request request = Ask(1, 20, 30);
  const std::vector<int32_t> free = FakeGreedy(request.prompt, 30, kModel.vocab_size);
  request.eos_token_ids = {free[4]};
  EXPECT_LE(Submit(world->engine(), request)->Wait().tokens.size(), 5u);
  request.rules = {.min_tokens = 12, .ends = {free[4]}};
  const std::vector<int32_t> longer = Submit(world->engine(), request)->Wait().tokens;
  EXPECT_GE(longer.size(), 12u);
  EXPECT_EQ(std::count(longer.begin(), longer.begin() + 12, free[4]), 0);
}

TEST(EngineTest, AnExitThatTheModelTookIsNotForced) {
  auto world = Start(1, SmallEngine());
  Request request = Ask(1, 20, 30);
  const std::vector<int32_t> free = FakeGreedy(request.prompt, 30, kModel.vocab_size);
  for (const uint32_t after : {5u, 6u}) {  // just too late, just in time
    request.forced_exit =
        ForcedExit{.watch_ids = {100, free[5]}, .after_tokens = after, .force_ids = {1}};
    if (std::find(free.begin(), free.begin() + 5, free[5]) != free.begin() + 5) FAIL() << "prompt";
    const std::vector<int32_t> tokens = Submit(world->engine(), request)->Wait().tokens;
    EXPECT_EQ(tokens == free, after == 6) << after;
    if (after == 5) {
      EXPECT_EQ(tokens[5], 1);
    }
    Request resumed = request;
    resumed.generated.assign(tokens.begin(), tokens.begin() + 10);
    EXPECT_EQ(Submit(world->engine(), resumed)->Wait().tokens,
              std::vector<int32_t>(tokens.begin() + 10, tokens.end()));
  }
}

TEST(EngineTest, ResumeOfACompleteAnswerEndsAtOnce) {
  auto world = Start(1, SmallEngine());
  Request request = Ask(1, 10, 3);
  request.generated = {4, 5, 6};
  auto received = Submit(world->engine(), request)->Wait();
  EXPECT_TRUE(received.admitted);
  EXPECT_TRUE(received.tokens.empty());
  EXPECT_EQ(received.ended->reason, FinishReason::kLength);
  request.max_tokens = 9;
  request.eos_token_ids = {6};
  received = Submit(world->engine(), request)->Wait();
  EXPECT_EQ(received.ended->reason, FinishReason::kStop);
  EXPECT_EQ(received.ended->eos_token_id, 6);
  EXPECT_EQ(received.ended->completion_tokens, 3u);
}

TEST(EngineTest, NeverChoosesIdsThatHaveNoToken) {
  EngineOptions options = SmallEngine();
  options.num_tokens = 7;  // of 101
  auto world = Start(4, options);
  for (uint32_t i = 0; i < 10; ++i) {
    Request request = Mixed(i);
    for (int32_t& id : request.prompt) id %= 7;
    request.logprobs = 20;
    const auto received = Submit(world->engine(), request)->Wait();
    for (const int32_t id : received.tokens) EXPECT_LT(id, 7);
  }
}

}  // namespace
}  // namespace deltaserve
