// Steps launched before the result of the one before is known: the same answers, one step more
// where an answer ends by what was sampled.

#include <algorithm>
#include <atomic>
#include <bit>

#include "kernels/base/status_macros.h"
#include "tests/worker/engine/late_device.h"
#include "tests/worker/engine/small_world.h"

namespace deltaserve {
namespace {

constexpr uint32_t kRequests = 64;

// Of every kind that looks at what was sampled: ends by token, rules, thinking budgets, scores.
Request Mixed(uint32_t i) {
  Request request = Ask(i, 1 + (i * 37) % 200, 3 + i % 30);
  if (i % 3 == 1) request.sampling.temperature = 0.9F;
  if (i % 6 == 4) request.sampling.top_k = 7;
  if (i % 4 == 1) request.eos_token_ids = {3, 50, 60, 61, 62, 63};
  if (i % 5 == 2) request.stop_token_ids = {10, 11, 12, 13, 14, 15, 16};
  if (i % 7 == 3) request.logprobs = 2;
  if (i % 11 == 3) request.prompt_logprobs = 1;
  if (i % 5 == 3) request.rules.repetition_penalty = 1.3F;
  if (i % 10 == 8) request.rules.frequency_penalty = 0.7F;
  if (i % 13 == 2) request.rules.bias = {{5, 2.0F}, {40, -50.0F}};
  if (i % 13 == 6) request.rules.banned = {{9}, {30}};
  if (i % 13 == 9) {
    request.rules.min_tokens = 3;
    request.rules.ends = {50, 60, 61};
  }
  if (i % 14 == 3) request.logprob_ids = {11, 90};
  if (i % 16 == 7) request.logits_at = {0};
  if (i % 8 == 5) {
    request.forced_exit = ForcedExit{.watch_ids = {20}, .after_tokens = 4, .force_ids = {7, 8, 9}};
  }
  if (i % 9 == 7 && request.max_tokens > 4) request.generated = {1, 2, 4};
  return request;
}

std::vector<CollectingSink::Received> Answers(int ranks, int run_ahead, bool late = false) {
  PretendOptions options{.ranks = ranks, .engine = SmallEngine()};
  options.engine.run_ahead = run_ahead;
  options.engine.prompt_logits = true;
  PretendModelFactory factory = Factory();
  if (late) {
    options.wrap_device = [](std::unique_ptr<Device> device) {
      return std::make_unique<LateDevice>(std::move(device));
    };
    factory = [](World& world, Device& device) -> absl::StatusOr<std::unique_ptr<Model>> {
      DS_ASSIGN_OR_RETURN(auto model, Factory()(world, device));
      return std::make_unique<LateModel>(std::move(model),
                                         static_cast<LateDevice&>(device).queue());
    };
  }
  auto started = PretendWorld::Start(options, factory);
  EXPECT_TRUE(started.ok()) << started.status();
  const std::unique_ptr<PretendWorld> world = *std::move(started);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  sinks.reserve(kRequests);
  for (uint32_t i = 0; i < kRequests; ++i) sinks.push_back(Submit(world->engine(), Mixed(i)));
  std::vector<CollectingSink::Received> answers;
  answers.reserve(kRequests);
  for (const auto& sink : sinks) answers.push_back(sink->Wait());
  ExpectAllFree(*world, ranks);
  return answers;
}

void ExpectSame(const std::vector<CollectingSink::Received>& got,
                const std::vector<CollectingSink::Received>& expected) {
  std::map<FinishReason, int> ends;
  for (uint32_t i = 0; i < kRequests; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(got[i].tokens, expected[i].tokens);
    ASSERT_TRUE(got[i].ended.has_value() && expected[i].ended.has_value());
    EXPECT_EQ(got[i].ended->reason, expected[i].ended->reason);
    EXPECT_EQ(got[i].ended->completion_tokens, expected[i].ended->completion_tokens);
    ++ends[got[i].ended->reason];
    ASSERT_EQ(got[i].logprobs.size(), expected[i].logprobs.size());
    for (size_t t = 0; t < got[i].logprobs.size(); ++t) {
      EXPECT_EQ(std::bit_cast<uint32_t>(got[i].logprobs[t].logprob),
                std::bit_cast<uint32_t>(expected[i].logprobs[t].logprob));
      EXPECT_EQ(got[i].logprobs[t].id, got[i].tokens[t]);
      EXPECT_EQ(got[i].logprobs[t].top, expected[i].logprobs[t].top);
    }
    const auto scores = got[i].prompt_scores();
    const auto expected_scores = expected[i].prompt_scores();
    ASSERT_EQ(scores.size(), expected_scores.size());
    for (size_t t = 0; t < scores.size(); ++t) {
      EXPECT_EQ(scores[t].logprob, expected_scores[t].logprob);
      EXPECT_EQ(scores[t].top, expected_scores[t].top);
    }
    EXPECT_EQ(got[i].logits, expected[i].logits);
  }
  EXPECT_GT(ends[FinishReason::kStop], 5);  // else nothing ended while a step was ahead
  EXPECT_GT(ends[FinishReason::kLength], 5);
}

class RunAheadTest : public testing::TestWithParam<int> {};

TEST_P(RunAheadTest, ChangesNoAnswer) {
  ExpectSame(Answers(GetParam(), 1), Answers(GetParam(), 0));
}

TEST_P(RunAheadTest, CancelledAnswersAreBeginningsOfWhole) {
  EngineOptions options = SmallEngine();
  options.run_ahead = 1;
  const auto world = Start(GetParam(), options);
  for (uint32_t i = 0; i < 30; ++i) {
    auto whole = Submit(world->engine(), Ask(i, 70, 40));
    auto cut = std::make_shared<CollectingSink>();
    const auto ticket = world->engine().Submit(Ask(i, 70, 40), cut);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    cut->WaitForTokens(i % 7);
    world->engine().Cancel(*ticket);
    const auto all = whole->Wait().tokens;
    const auto some = cut->Wait().tokens;
    EXPECT_EQ(all.size(), 40U);
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
  }
  ExpectAllFree(*world, GetParam());
}

// Memory of a step that the host gave up, wrote over or read too soon shows as another answer.
TEST(LateDeviceTest, GivesWhatADeviceGivesThatIsNeverLate) {
  const auto expected = Answers(1, 0);
  for (const int run_ahead : {0, 1}) {
    SCOPED_TRACE(run_ahead);
    ExpectSame(Answers(1, run_ahead, /*late=*/true), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, RunAheadTest, testing::Values(1, 2));

// More rows than are gathered at once, with rules, beside rows that are merged: warm-up has no such
// step, and its scratch must do.
TEST(ScratchTest, IsEnoughForEveryMixOfRows) {
  for (const int ranks : {1, 2}) {
    EngineOptions options = SmallEngine();
    options.slots = 40;
    const auto world = Start(ranks, options);
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (uint32_t i = 0; i < 40; ++i) {
      Request request = Ask(i, 1, 30);
      if (i >= 6) request.rules.repetition_penalty = 1.1F;
      if (i == 20) request.logprobs = 20;
      sinks.push_back(Submit(world->engine(), std::move(request)));
    }
    for (const auto& sink : sinks) EXPECT_EQ(sink->Wait().tokens.size(), 30U);
    ExpectAllFree(*world, ranks);
  }
}

class CountSteps final : public EngineObserver {
 public:
  std::atomic<int> steps = 0;
  void OnRefused(v1::ErrorCode /*code*/) override {}
  void OnStep(const StepRecord& /*step*/) override { ++steps; }
  void OnFirstToken(absl::Duration /*since_submit*/) override {}
  void OnNextToken(absl::Duration /*since_last*/) override {}
  void OnEnd(const RequestRecord& /*request*/) override {}
};

// How many steps a world takes for one answer that a token of its own ends.
int StepsOfOne(int run_ahead, const std::vector<int32_t>& eos, uint32_t max_tokens) {
  CountSteps count;
  EngineOptions options = SmallEngine();
  options.run_ahead = run_ahead;
  auto world = PretendWorld::Start({.engine = options, .observer = &count}, Factory());
  EXPECT_TRUE(world.ok()) << world.status();
  Request request = Ask(1, 10, max_tokens);
  request.eos_token_ids = eos;
  Submit((*world)->engine(), std::move(request))->Wait();
  for (const absl::Status& status : (*world)->End()) EXPECT_TRUE(status.ok()) << status;
  return count.steps;
}

TEST(RunAheadStepsTest, OneMoreWhereATokenEndsTheAnswerAndNoneWhereItsLengthDoes) {
  EXPECT_EQ(StepsOfOne(0, {}, 9), 9);
  EXPECT_EQ(StepsOfOne(1, {}, 9), 9);
  const auto world = Start(1, SmallEngine());
  const std::vector<int32_t> tokens = Submit(world->engine(), Ask(1, 10, 9))->Wait().tokens;
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[4]) - tokens.begin();
  EXPECT_EQ(StepsOfOne(0, {tokens[4]}, 9), first + 1);
  EXPECT_EQ(StepsOfOne(1, {tokens[4]}, 9), first + 2);
}

}  // namespace
}  // namespace deltaserve
