#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/scheduler_fixture.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;

TEST_F(SchedulerTest, ScoresLogitsAndNoMoreRowsThanAStepMay) {
  Make(2, 20);
  Request request = Ask(200, 1);
  for (int64_t position = 0; position < 100; ++position) request.logits_at.push_back(position);
  request.logits_at.push_back(199);
  Submit(1, request);
  StepPlan plan = Step();  // the budget would take all
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{0, 64}));
  EXPECT_EQ(plan.chunks[0].logit_offsets.size(), 64u);
  plan = Step();
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{64, 136}));
  EXPECT_EQ(plan.chunks[0].logit_offsets.size(), 37u);
  EXPECT_EQ(plan.chunks[0].logit_offsets.back(), 135);
  const std::vector<std::string> events = Events();
  EXPECT_EQ(events.size(), 1u + 101u + 2u);
  EXPECT_EQ(events[1], "1 logits 0");
  EXPECT_EQ(events[101], "1 logits 199");
  EXPECT_EQ(events[102], "1 token 0");
}

TEST_F(SchedulerTest, ScoresEveryTokenOfAPromptButTheFirstAStepAtATime) {
  Make(1, 20);
  Request request = Ask(130, 1);
  for (int32_t at = 0; at < 130; ++at) request.prompt[static_cast<size_t>(at)] = at;
  request.prompt_logprobs = 4;
  Submit(1, request);
  StepPlan plan = Step();  // the budget would take all
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{0, 64}));
  EXPECT_EQ(plan.chunks[0].score_ids.front(), 1);
  EXPECT_EQ(plan.chunks[0].score_ids.back(), 64);  // the next chunk's first
  EXPECT_EQ(plan.chunks[0].score_top, 4);
  EXPECT_THAT(Chunks(Step()), ElementsAre(Chunk{64, 64}));
  plan = Step();
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{128, 2}));
  EXPECT_THAT(plan.chunks[0].score_ids, ElementsAre(129));  // what the last row gives is sampled
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "1 scores 1 to 64", "1 scores 65 to 128",
                                    "1 scores 129 to 129", "1 token 0", "1 length"));
}

TEST_F(SchedulerTest, ScoresOfAPromptEndWithItAndNotWithResumedTokens) {
  Make(1, 20);
  Request request = Ask(60, 100);
  request.generated.assign(90, 7);
  request.prompt_logprobs = 0;
  Submit(1, request);
  EXPECT_THAT(Chunks(Step()), ElementsAre(Chunk{0, 150}));
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "1 scores 1 to 59", "1 token 90"));
  // A prompt of one token has none.
  scheduler_->Cancel(1);
  Request one = Ask(1, 1);
  one.prompt_logprobs = 0;
  Submit(2, one);
  Step();
  EXPECT_THAT(Events(), ElementsAre("1 cancelled", "2 admitted", "2 token 0", "2 length"));
}

TEST_F(SchedulerTest, PromptsShareTheRowsThatAStepScores) {
  Make(3, 30);
  for (const uint64_t ticket : {1, 2}) {
    Request request = Ask(100, 1);
    request.prompt_logprobs = 1;
    Submit(ticket, request);
  }
  Submit(3, Ask(300, 1));
  // The second waits for the first; one without scores does not.
  EXPECT_THAT(Chunks(Step(512)), ElementsAre(Chunk{0, 64}, Chunk{0, 300}));
  EXPECT_THAT(Chunks(Step(512)), ElementsAre(Chunk{64, 36}));
  EXPECT_THAT(Chunks(Step(512)), ElementsAre(Chunk{0, 64}));
  EXPECT_THAT(Chunks(Step(512)), ElementsAre(Chunk{64, 36}));
}

TEST_F(SchedulerTest, LogitsAndScoresOfOneRowAreOneRow) {
  Make(1, 20);
  Request request = Ask(70, 1);
  request.prompt_logprobs = 1;
  for (int64_t position = 0; position < 70; ++position) request.logits_at.push_back(position);
  Submit(1, request);
  StepPlan plan = Step();
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{0, 64}));
  EXPECT_EQ(plan.chunks[0].num_logit_rows(), 64);
  plan = Step();
  EXPECT_EQ(plan.chunks[0].num_logit_rows(), 6);  // five are scored too, the last is sampled too
  EXPECT_EQ(MakeScorePlan(plan).rows.size(), 6u);
}

TEST_F(SchedulerTest, ScoresOfACancelledPromptAreDroppedAndNoOthers) {
  Make(2, 30);
  for (const uint64_t ticket : {1, 2}) {
    Request request = Ask(30, 3);
    request.prompt_logprobs = 1;
    Submit(ticket, request);
  }
  const StepPlan plan = Next();
  scheduler_->Cancel(1);
  Commit(plan);
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "2 admitted", "1 cancelled", "2 scores 1 to 29",
                                    "2 token 0"));
  EXPECT_EQ(scheduler_->free_slots(), 1);
}

}  // namespace
}  // namespace deltaserve
