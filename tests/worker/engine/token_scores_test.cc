// Scores of prompts and of named ids, from the engine: what they are, and that nothing changes
// them.

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/small_world.h"

namespace deltaserve {
namespace {

// Sums of f32 exps, taken in another order.
constexpr double kTolerance = 1e-5;

double LogProbOf(const std::vector<float>& logits, int32_t id) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return logits[static_cast<size_t>(id)] - std::log(sum);
}

void ExpectScore(const TokenLogProb& score, const std::vector<float>& logits, size_t num_top) {
  const float own = logits[static_cast<size_t>(score.id)];
  EXPECT_NEAR(score.logprob, LogProbOf(logits, score.id), kTolerance);
  EXPECT_EQ(score.rank, 1 + std::count_if(logits.begin(), logits.end(),
                                          [own](float logit) { return logit > own; }));
  ASSERT_EQ(score.top.size(), num_top);
  for (const auto& [id, logprob] : score.top) {
    EXPECT_NEAR(logprob, LogProbOf(logits, id), kTolerance) << id;
  }
  if (num_top > 0) {
    EXPECT_EQ(logits[static_cast<size_t>(score.top[0].first)],
              *std::max_element(logits.begin(), logits.end()));
  }
}

void ExpectSame(const std::vector<TokenLogProb>& a, const std::vector<TokenLogProb>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].id, b[i].id);
    EXPECT_EQ(a[i].logprob, b[i].logprob);
    EXPECT_EQ(a[i].rank, b[i].rank);
    EXPECT_EQ(a[i].top, b[i].top);
  }
}

// Requests of every kind of scores, by number.
Request Scored(uint32_t i) {
  Request request = Ask(i, 1 + (i * 37) % 200, 3);
  if (i % 3 != 1) request.prompt_logprobs = i % 6;
  if (i % 3 != 2) {
    request.logprobs = i % 4;
    request.logprob_ids = {100, static_cast<int32_t>(i), 50};
  }
  if (i % 4 == 0) request.sampling = {.temperature = 1, .top_k = 9, .seed = i};
  return request;
}

class TokenScoresTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, TokenScoresTest, ::testing::Values(1, 2, 4));

TEST_P(TokenScoresTest, EachTokenOfAPromptIsScoredByWhatCameBefore) {
  auto world = Start(GetParam(), SmallEngine());
  for (const size_t length : {1u, 2u, 64u, 65u, 300u}) {
    SCOPED_TRACE(length);
    Request request = Ask(static_cast<uint32_t>(length), length, 5);
    request.prompt_logprobs = 4;
    request.generated = {7, 8};
    const auto received = Submit(world->engine(), request)->Wait();
    const std::vector<TokenLogProb> scores = received.prompt_scores();
    ASSERT_EQ(scores.size(), length - 1);
    for (size_t i = 0; i < scores.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(scores[i].id, request.prompt[i + 1]);
      ExpectScore(scores[i], FakeLogits(std::span(request.prompt).first(i + 1), kModel.vocab_size),
                  4);
    }
    for (const auto& page : received.prompt_pages) EXPECT_LE(page.size(), 64u);
    EXPECT_EQ(received.tokens.size(), 3u);
  }
  ExpectAllFree(*world, GetParam());
}

TEST_P(TokenScoresTest, APromptOfThousandsComesInPages) {
  EngineOptions options = SmallEngine();
  options.kv_memory = 100 * kBlockBytes;
  options.token_budget = 1024;
  auto world = Start(GetParam(), options);
  Request request = Ask(9, 4000, 2);
  request.prompt_logprobs = 20;
  const auto received = Submit(world->engine(), request)->Wait();
  EXPECT_EQ(received.prompt_pages.size(), 63u);
  const std::vector<TokenLogProb> scores = received.prompt_scores();
  ASSERT_EQ(scores.size(), 3999u);
  for (const size_t i : {0u, 63u, 64u, 2000u, 3998u}) {
    EXPECT_EQ(scores[i].id, request.prompt[i + 1]);
    ExpectScore(scores[i], FakeLogits(std::span(request.prompt).first(i + 1), kModel.vocab_size),
                20);
  }
  EXPECT_EQ(received.tokens, FakeGreedy(request.prompt, 2, kModel.vocab_size));
  ExpectAllFree(*world, GetParam());
}

TEST_P(TokenScoresTest, BatchAndBudgetChangeNoScore) {
  std::vector<CollectingSink::Received> alone;
  {
    auto world = Start(1, SmallEngine());
    for (uint32_t i = 0; i < 32; ++i) alone.push_back(Submit(world->engine(), Scored(i))->Wait());
  }
  for (const int64_t budget : {64, 192, 1000}) {
    EngineOptions options = SmallEngine();
    options.slots = 32;
    options.kv_memory = 1000 * kBlockBytes;
    options.token_budget = budget;
    auto world = Start(GetParam(), options);
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (uint32_t i = 0; i < 32; ++i) sinks.push_back(Submit(world->engine(), Scored(i)));
    for (uint32_t i = 0; i < 32; ++i) {
      SCOPED_TRACE(testing::Message() << "request " << i << ", budget " << budget);
      const auto together = sinks[i]->Wait();
      EXPECT_EQ(together.tokens, alone[i].tokens);
      ExpectSame(together.logprobs, alone[i].logprobs);
      ExpectSame(together.prompt_scores(), alone[i].prompt_scores());
    }
    ExpectAllFree(*world, GetParam());
  }
}

TEST_P(TokenScoresTest, NamedIdsAreScoredWithEveryToken) {
  auto world = Start(GetParam(), SmallEngine());
  Request request = Ask(4, 70, 6);
  request.logprobs = 2;
  for (int32_t id = 0; id < 101; ++id) request.logprob_ids.push_back(100 - id);
  const auto received = Submit(world->engine(), request)->Wait();
  ASSERT_EQ(received.logprobs.size(), 6u);
  std::vector<int32_t> history = request.prompt;
  for (const TokenLogProb& score : received.logprobs) {
    ExpectScore(score, FakeLogits(history, kModel.vocab_size), 101);  // each id once
    history.push_back(score.id);
  }
  ExpectAllFree(*world, GetParam());
}

// Keeps the engine thread at the third page of scores.
class PageGate final : public RequestSink {
 public:
  void OnAdmitted() override {}
  void OnLogits(int64_t, std::span<const float>) override {}
  void OnPromptScores(int64_t, std::span<const TokenLogProb>) override {
    if (++num_pages_ != 3) return;
    reached_.Notify();
    open_.WaitForNotification();
  }
  void OnTokens(uint32_t, std::span<const int32_t>, std::span<const TokenLogProb>) override {}
  void OnEnded(const Ended& ended) override {
    ended_ = ended;
    over_.Notify();
  }
  void OnError(const absl::Status&) override { over_.Notify(); }

  void WaitUntilReached() { reached_.WaitForNotification(); }
  // The end, with the number of pages before it.
  std::pair<std::optional<Ended>, int> Open() {
    open_.Notify();
    over_.WaitForNotification();
    return {ended_, num_pages_};
  }

 private:
  absl::Notification reached_, open_, over_;
  std::optional<Ended> ended_;
  int num_pages_ = 0;
};

TEST_P(TokenScoresTest, CancelledAmongItsPagesItHoldsNothing) {
  auto world = Start(GetParam(), SmallEngine());
  Request request = Ask(6, 2000, 2);
  request.prompt_logprobs = 20;
  const auto sink = std::make_shared<PageGate>();
  const auto ticket = world->engine().Submit(request, sink);
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  sink->WaitUntilReached();
  world->engine().Cancel(*ticket);
  const auto [ended, num_pages] = sink->Open();
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->reason, FinishReason::kCancelled);
  EXPECT_EQ(num_pages, 3);
  const Request after = Ask(7, 30, 4);
  EXPECT_EQ(Submit(world->engine(), after)->Wait().tokens,
            FakeGreedy(after.prompt, 4, kModel.vocab_size));
  ExpectAllFree(*world, GetParam());
}

}  // namespace
}  // namespace deltaserve
