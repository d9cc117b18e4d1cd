#include "worker/engine/scheduler.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/ops.h"
#include "tests/worker/engine/scheduler_fixture.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST_F(SchedulerTest, HasNothingToDoWithoutRequests) {
  Make(2, 10);
  EXPECT_FALSE(scheduler_->Next(kNow, 64).has_value());
  EXPECT_TRUE(scheduler_->empty());
  EXPECT_EQ(scheduler_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(SchedulerTest, RunsARequestFromPromptToEnd) {
  Make(2, 10);
  Submit(7, Ask(3, 3));
  StepPlan plan = Step();
  ASSERT_EQ(plan.opens.size(), 1u);
  EXPECT_EQ(plan.opens[0].blocks.size(), 1u);
  EXPECT_THAT(plan.state_ops, ElementsAre(StateOp{.state = plan.opens[0].state}));
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{0, 3}));
  EXPECT_EQ(plan.chunks[0].scoring, Scoring::kMerged);
  EXPECT_THAT(plan.decodes, IsEmpty());

  for (int i = 0; i < 2; ++i) {
    plan = Step();
    EXPECT_THAT(plan.opens, IsEmpty());
    EXPECT_THAT(plan.chunks, IsEmpty());
    EXPECT_THAT(plan.decodes, ElementsAre(DecodeRow{.slot = plan.decodes[0].slot}));
  }
  EXPECT_THAT(Events(),
              ElementsAre("7 admitted", "7 token 0", "7 token 1", "7 token 2", "7 length"));
  EXPECT_FALSE(scheduler_->Next(kNow, 64).has_value());
  EXPECT_EQ(scheduler_->free_blocks(), 10);
  EXPECT_EQ(scheduler_->free_slots(), 2);
}

TEST_F(SchedulerTest, ReservesBlocksForTheWholeRequest) {
  Make(4, 10);
  Submit(1, Ask(64, 64));  // 2
  Submit(2, Ask(64, 65));  // 3
  Submit(3, Ask(1, 1));    // 1
  const StepPlan plan = Step();
  EXPECT_EQ(plan.opens[0].blocks.size(), 2u);
  EXPECT_EQ(plan.opens[1].blocks.size(), 3u);
  EXPECT_EQ(plan.opens[2].blocks.size(), 1u);
  EXPECT_EQ(scheduler_->used_blocks(), 5);  // the third has ended
  for (int i = 0; i < 63; ++i) EXPECT_THAT(Step().grows, IsEmpty());
  EXPECT_EQ(scheduler_->used_blocks(), 3);
}

TEST_F(SchedulerTest, CutsPromptsOnlyAtMultiplesOf64) {
  Make(1, 100);
  Submit(1, Ask(300, 1));
  EXPECT_THAT(Chunks(Step(100)), ElementsAre(Chunk{0, 64}));
  EXPECT_THAT(Chunks(Step(129)), ElementsAre(Chunk{64, 128}));
  EXPECT_THAT(Chunks(Step(107)), ElementsAre(Chunk{192, 64}));
  EXPECT_THAT(Chunks(Step(64)), ElementsAre(Chunk{256, 44}));
}

TEST_F(SchedulerTest, SamplesOnlyAtTheEndOfThePrompt) {
  Make(1, 100);
  Submit(1, Ask(128, 1));
  EXPECT_EQ(Step(64).chunks[0].scoring, Scoring::kNone);
  EXPECT_EQ(Step(64).chunks[0].scoring, Scoring::kMerged);
}

TEST_F(SchedulerTest, APromptEndsWithinTheBudgetWhereItFits) {
  Make(1, 100);
  Submit(1, Ask(130, 1));
  EXPECT_THAT(Chunks(Step(130)), ElementsAre(Chunk{0, 130}));
}

TEST_F(SchedulerTest, EveryBudgetGivesOneChunk) {
  Make(1, 100);
  Submit(1, Ask(200, 1));
  EXPECT_THAT(Chunks(Step(0)), ElementsAre(Chunk{0, 64}));
  EXPECT_THAT(Chunks(Step(1)), ElementsAre(Chunk{64, 64}));
}

TEST_F(SchedulerTest, WaitingPromptsShareTheBudgetAChunkEach) {
  Make(4, 100);
  Submit(1, Ask(1000, 1));
  Submit(2, Ask(70, 1));
  Submit(3, Ask(10, 1));
  Submit(4, Ask(500, 1));
  // 64 + 64 + 10 + 64 of 300; of the 98 left the first takes 64, the second its last 6.
  const StepPlan plan = Next(300);
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{0, 128}, Chunk{0, 70}, Chunk{0, 10}, Chunk{0, 64}));
}

TEST_F(SchedulerTest, ALongPromptDoesNotHoldUpAShortOne) {
  Make(2, 100);
  Submit(1, Ask(2000, 1));
  Step(128);
  Submit(2, Ask(20, 1));
  EXPECT_THAT(Chunks(Step(128)), ElementsAre(Chunk{128, 64}, Chunk{0, 20}));
}

TEST_F(SchedulerTest, DecodesComeFirstAndDoNotCountForTheBudget) {
  Make(3, 100);
  Submit(1, Ask(10, 50));
  Submit(2, Ask(10, 50));
  Step();
  Submit(3, Ask(100, 5));
  const StepPlan plan = Next(64);
  EXPECT_EQ(plan.decodes.size(), 2u);
  EXPECT_THAT(Chunks(plan), ElementsAre(Chunk{0, 64}));
}

TEST_F(SchedulerTest, AdmitsByPriorityThenByArrival) {
  Make(2, 100);
  Request urgent = Ask(10, 1);
  urgent.priority = 5;
  Request lazy = Ask(10, 1);
  lazy.priority = -1;
  Submit(1, lazy);
  Submit(2, Ask(10, 1));
  Submit(3, urgent);
  Submit(4, Ask(10, 1));
  Step();
  Step();
  EXPECT_THAT(Events(), ElementsAre("3 admitted", "2 admitted", "3 token 0", "3 length",
                                    "2 token 0", "2 length", "4 admitted", "1 admitted",
                                    "4 token 0", "4 length", "1 token 0", "1 length"));
}

TEST_F(SchedulerTest, WithinAPriorityAdmitsWhatIsDueFirst) {
  Make(1, 100);
  const auto ask = [&](uint64_t ticket, int32_t priority, absl::Duration allowed) {
    Request request = Ask(10, 1);
    request.priority = priority;
    request.deadline = kNow + allowed;
    Submit(ticket, request);
  };
  ask(1, 0, absl::InfiniteDuration());
  ask(2, 0, absl::Hours(1));  // as good as none
  ask(3, 0, absl::Seconds(20));
  ask(4, 0, absl::Seconds(10));
  ask(5, 1, absl::InfiniteDuration());
  ask(6, 0, absl::Seconds(20));
  ask(7, -1, absl::Seconds(5));
  std::vector<uint64_t> admitted;
  for (int i = 0; i < 7; ++i) {
    Step();
    for (const SchedulerEvent& event : scheduler_->TakeEvents()) {
      if (std::holds_alternative<SchedulerEvent::Admitted>(event.what)) {
        admitted.push_back(event.ticket);
      }
    }
  }
  EXPECT_THAT(admitted, ElementsAre(5, 4, 3, 6, 1, 2, 7));
}

TEST_F(SchedulerTest, ChunksToo) {
  Make(2, 100);
  Submit(1, Ask(1000, 1));
  Step(64);
  Request urgent = Ask(1000, 1);
  urgent.deadline = kNow + absl::Seconds(5);
  Submit(2, urgent);
  EXPECT_THAT(Chunks(Step(64)), ElementsAre(Chunk{0, 64}));
  EXPECT_THAT(Chunks(Step(192)), ElementsAre(Chunk{64, 128}, Chunk{64, 64}));
}

// Each second brings somebody who is due in ten, and one can be served.
TEST_F(SchedulerTest, AStreamOfDeadlinesKeepsNobodyWaitingForGood) {
  Make(1, 100);
  Submit(1, Ask(10, 1));
  absl::Time now = kNow;
  for (uint64_t ticket = 2; ticket < 200; ++ticket, now += absl::Seconds(1)) {
    Request urgent = Ask(10, 1);
    urgent.deadline = now + absl::Seconds(10);
    Submit(ticket, urgent, now);
    Commit(Next(64, now));
    const std::vector<std::string> events = Events();
    if (events[0] == "1 admitted") break;
    EXPECT_EQ(events[0], std::to_string(ticket) + " admitted");
  }
  // From 50 s on those who come are due after it.
  EXPECT_EQ(now - kNow, Scheduler::kPatience - absl::Seconds(10));
}

TEST_F(SchedulerTest, RefusesOnArrivalWhatCannotBeInTime) {
  constexpr Speed kSpeed = {.prompt_token = absl::Milliseconds(10),
                            .decode_step = absl::Milliseconds(100)};
  struct Row {
    const char* what;
    Request request;
    double allowed;  // seconds
    Speed speed;
    bool refused;
  };
  Request long_answer = Ask(100, 50);
  long_answer.rules.min_tokens = 31;
  Request high = Ask(640, 5);
  high.priority = 1;
  Request soon = Ask(500, 5);
  soon.deadline = kNow + absl::Seconds(10);
  // One runs with 936 tokens left, one that is due sooner waits: both come first in the one slot.
  for (const Row& row : std::initializer_list<Row>{
           {"all before it", Ask(100, 5), 15.3, kSpeed, true},
           {"just in time", Ask(100, 5), 15.4, kSpeed, false},
           {"only what runs is before it", high, 15.7, kSpeed, true},
           {"higher priorities do not wait for lower ones", high, 15.8, kSpeed, false},
           {"tokens that it must make", long_answer, 18.3, kSpeed, true},
           {"and has time for", long_answer, 18.4, kSpeed, false},
           {"no speed is known", Ask(100, 5), 0.001, {}, false},
           {"it had passed", Ask(100, 5), 0, {}, true}}) {
    Make(1, 100);
    Submit(1, Ask(1000, 5));
    Step(64);
    Submit(2, soon);
    Events();
    Request request = row.request;
    request.deadline = kNow + absl::Seconds(row.allowed);
    Submit(3, request, kNow, row.speed);
    if (row.refused) {
      EXPECT_THAT(Events(), ElementsAre("3 error ERROR_CODE_DEADLINE")) << row.what;
      EXPECT_EQ(scheduler_->waiting_tokens(), 500);
      EXPECT_EQ(scheduler_->next_deadline(), soon.deadline);
    } else {
      EXPECT_THAT(Events(), IsEmpty()) << row.what;
      EXPECT_EQ(scheduler_->num_waiting(), 2);
    }
  }
}

TEST_F(SchedulerTest, TellsWhenTheHeadOfTheQueueIsAdmitted) {
  constexpr Speed kSpeed = {.prompt_token = absl::Milliseconds(10),
                            .decode_step = absl::Milliseconds(100)};
  Make(3, 10);
  EXPECT_EQ(scheduler_->TimeToAdmission(kSpeed), absl::ZeroDuration());
  Submit(1, Ask(100, 28));   // 2 blocks
  Submit(2, Ask(100, 400));  // 8 blocks
  Step();                    // 27 and 399 tokens are left
  EXPECT_EQ(scheduler_->TimeToAdmission(kSpeed), absl::Milliseconds(2700));
  Submit(3, Ask(128, 1));  // 3 blocks: there are 2 before the other ends
  EXPECT_EQ(scheduler_->TimeToAdmission(kSpeed), absl::Milliseconds(39900));
}

TEST_F(SchedulerTest, NobodyOvertakesTheHeadOfTheQueue) {
  Make(3, 4);
  Submit(1, Ask(100, 50));  // 3 blocks
  Submit(2, Ask(100, 50));  // waits for blocks
  Submit(3, Ask(1, 1));     // would fit
  Step();
  EXPECT_EQ(scheduler_->num_running(), 1);
  EXPECT_EQ(scheduler_->num_waiting(), 2);
  EXPECT_EQ(scheduler_->waiting_tokens(), 101);
  scheduler_->Cancel(1);
  EXPECT_EQ(Step().opens.size(), 2u);
  EXPECT_EQ(scheduler_->waiting_tokens(), 0);
}

TEST_F(SchedulerTest, ClosesBeforeItReusesASlot) {
  Make(1, 4);
  Submit(1, Ask(5, 1));
  Submit(2, Ask(5, 1));
  const StepPlan first = Step();
  const StepPlan second = Step();
  EXPECT_THAT(first.closes, IsEmpty());
  EXPECT_THAT(second.closes, ElementsAre(first.opens[0].slot));
  EXPECT_EQ(second.opens[0].slot, first.opens[0].slot);
  EXPECT_THAT(scheduler_->DeltasOnly(PlanKind::kIdle).closes, ElementsAre(second.opens[0].slot));
  EXPECT_THAT(scheduler_->DeltasOnly(PlanKind::kIdle).closes, IsEmpty());
}

TEST_F(SchedulerTest, CancelFreesEverythingInEveryState) {
  Make(3, 20);
  Submit(1, Ask(10, 10));
  Step();  // decodes
  Submit(2, Ask(500, 10));
  Submit(3, Ask(500, 60));
  Step(64);                // 2 has begun, 3 is admitted and has no chunk yet
  Submit(4, Ask(10, 10));  // waits
  Events();
  for (const uint64_t ticket : {4, 3, 2, 1}) {
    EXPECT_TRUE(scheduler_->Cancel(ticket));
    EXPECT_FALSE(scheduler_->Cancel(ticket));
  }
  EXPECT_THAT(Events(), ElementsAre("4 cancelled", "3 cancelled", "2 cancelled", "1 cancelled"));
  EXPECT_EQ(scheduler_->free_blocks(), 20);
  EXPECT_EQ(scheduler_->free_slots(), 3);
  EXPECT_EQ(scheduler_->waiting_tokens(), 0);
  EXPECT_TRUE(scheduler_->empty());
  EXPECT_FALSE(scheduler_->Next(kNow, 64).has_value());
  EXPECT_THAT(scheduler_->DeltasOnly(PlanKind::kIdle).closes, UnorderedElementsAre(0, 1, 2));
}

TEST_F(SchedulerTest, WhatACancelledRequestSampledIsDropped) {
  Make(2, 20);
  Submit(1, Ask(5, 10));
  Submit(2, Ask(5, 10));
  const StepPlan plan = Next();
  scheduler_->Cancel(1);
  Commit(plan);
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "2 admitted", "1 cancelled", "2 token 0"));
}

TEST_F(SchedulerTest, DeadlinesEndWaitingAndRunningRequests) {
  Make(1, 20);
  Request running = Ask(5, 10);
  running.deadline = kNow + absl::Seconds(10);
  Request waiting = Ask(5, 10);
  waiting.deadline = kNow + absl::Seconds(3);
  Submit(1, running);
  Commit(Next(64, kNow + absl::Seconds(2)));
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "1 token 0"));
  Submit(2, waiting);
  Submit(3, Ask(5, 10));
  EXPECT_EQ(scheduler_->next_deadline(), waiting.deadline);
  Commit(Next(64, kNow + absl::Seconds(3)));  // at the deadline it has passed
  EXPECT_THAT(Events(), ElementsAre("2 error ERROR_CODE_DEADLINE", "1 token 1"));
  Commit(Next(64, kNow + absl::Seconds(11)));
  EXPECT_THAT(Events(), ElementsAre("1 error ERROR_CODE_DEADLINE", "3 admitted", "3 token 0"));
  EXPECT_EQ(scheduler_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(SchedulerTest, ARequestThatEndsTakesItsDeadlineAlong) {
  Make(2, 20);
  for (const uint64_t ticket : {1, 2}) {
    Request request = Ask(5, ticket == 1 ? 1 : 3);
    request.deadline = kNow + absl::Seconds(1);
    Submit(ticket, request);
  }
  Step();
  EXPECT_EQ(scheduler_->next_deadline(), kNow + absl::Seconds(1));
  Step();
  Step();
  EXPECT_EQ(scheduler_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(SchedulerTest, EosEndsUnlessIgnoredAndStopTokensAlways) {
  Make(4, 20);
  Request eos = Ask(5, 9);
  eos.eos_token_ids = {4, kToken};
  Request ignoring = eos;
  ignoring.ignore_eos = true;
  Request stop = ignoring;
  stop.stop_token_ids = {kToken};
  Submit(1, eos);
  Submit(2, ignoring);
  Submit(3, stop);
  Step();
  std::map<uint64_t, Ended> ended;
  for (const SchedulerEvent& event : scheduler_->TakeEvents()) {
    if (const auto* end = std::get_if<Ended>(&event.what)) ended[event.ticket] = *end;
  }
  ASSERT_EQ(ended.size(), 2u);
  EXPECT_EQ(ended[1].eos_token_id, kToken);
  EXPECT_EQ(ended[1].stop_token_id, std::nullopt);
  EXPECT_EQ(ended[3].eos_token_id, std::nullopt);
  EXPECT_EQ(ended[3].stop_token_id, kToken);
  EXPECT_EQ(ended[3].completion_tokens, 1u);
  EXPECT_EQ(ended[3].prompt_tokens, 5u);
}

TEST_F(SchedulerTest, AResumedRequestPrefillsWhatItHasAndCountsIt) {
  Make(1, 20);
  Request request = Ask(60, 6);
  request.generated = {11, 12, 13, 14};
  Submit(1, request);
  const StepPlan plan = Step();
  EXPECT_EQ(plan.opens[0].num_generated, 4u);
  EXPECT_EQ(plan.opens[0].blocks.size(), 2u);  // 60 + 6
  ASSERT_THAT(Chunks(plan), ElementsAre(Chunk{0, 64}));
  EXPECT_THAT(std::vector<int32_t>(plan.chunks[0].ids.end() - 4, plan.chunks[0].ids.end()),
              ElementsAre(11, 12, 13, 14));
  Step();
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "1 token 4", "1 token 5", "1 length"));
}

TEST_F(SchedulerTest, ClassifiesRowsByTheirOwnRequest) {
  Make(3, 20);
  Request filtered = Ask(5, 3);
  filtered.sampling = {.temperature = 1, .top_k = 3};
  Request scored = Ask(5, 3);
  scored.logprobs = 7;
  Submit(1, Ask(5, 3));
  Submit(2, filtered);
  Submit(3, scored);
  const StepPlan prefill = Step();
  const StepPlan decode = Step();
  EXPECT_EQ(prefill.chunks[1].scoring, Scoring::kGathered);
  EXPECT_EQ(prefill.chunks[2].scoring, Scoring::kGatheredLogProbs);
  EXPECT_EQ(decode.decodes[0].scoring, Scoring::kMerged);
  EXPECT_EQ(decode.decodes[1].scoring, Scoring::kGathered);
  EXPECT_EQ(decode.decodes[2].scoring, Scoring::kGatheredLogProbs);
  EXPECT_EQ(decode.decodes[2].num_top, 7);
}

TEST_F(SchedulerTest, PlansOneStepAheadOfItsResults) {
  Make(2, 20);
  Submit(1, Ask(5, 3));
  const StepPlan a = Next();
  const StepPlan b = Next();
  const StepPlan c = Next();
  EXPECT_EQ(b.decodes.size(), 1u);
  EXPECT_EQ(c.decodes.size(), 1u);
  // Three tokens are planned: no more rows, though none has come back.
  EXPECT_FALSE(scheduler_->Next(kNow, 64).has_value());
  Commit(a);
  Commit(b);
  EXPECT_EQ(scheduler_->free_slots(), 1);
  Commit(c);
  EXPECT_THAT(Events(),
              ElementsAre("1 admitted", "1 token 0", "1 token 1", "1 token 2", "1 length"));
  EXPECT_EQ(scheduler_->free_slots(), 2);
}

TEST_F(SchedulerTest, AnEndSeenLateDropsWhatWasPlannedBeyondIt) {
  Make(1, 20);
  Request request = Ask(5, 9);
  request.stop_token_ids = {kToken};
  Submit(1, request);
  Submit(2, Ask(5, 1));
  const StepPlan a = Next();
  const StepPlan b = Next();
  Commit(a);
  EXPECT_THAT(Events(), ElementsAre("1 admitted", "1 token 0", "1 stop"));
  // The slot is free for a plan that runs after b, and b's token is nobody's.
  const StepPlan c = Next();
  EXPECT_EQ(c.closes.size(), 1u);
  EXPECT_EQ(c.opens.size(), 1u);
  Commit(b);
  EXPECT_THAT(Events(), ElementsAre("2 admitted"));
  Commit(c);
  EXPECT_THAT(Events(), ElementsAre("2 token 0", "2 length"));
}

TEST_F(SchedulerTest, FailAllEndsEveryRequestOnce) {
  Make(1, 20);
  Submit(1, Ask(5, 9));
  Submit(2, Ask(5, 9));
  Step();
  Events();
  scheduler_->FailAll(absl::UnavailableError("gone"));
  EXPECT_THAT(Events(),
              ElementsAre("1 error ERROR_CODE_WORLD_LOST", "2 error ERROR_CODE_WORLD_LOST"));
  EXPECT_TRUE(scheduler_->empty());
  EXPECT_EQ(scheduler_->free_blocks(), 20);
}

}  // namespace
}  // namespace deltaserve
