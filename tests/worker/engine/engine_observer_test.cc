// What the engine tells of steps and requests, against what happened.

#include "worker/engine/engine_observer.h"

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/small_world.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;

// Keeps all that it is told.
class Notes final : public EngineObserver {
 public:
  struct All {
    std::vector<v1::ErrorCode> refused;
    std::vector<StepRecord> steps;
    std::vector<absl::Duration> first, next;
    std::vector<RequestRecord> ended;
  };

  void OnRefused(v1::ErrorCode code) override {
    const absl::MutexLock lock(&mutex_);
    all_.refused.push_back(code);
  }
  void OnStep(const StepRecord& step) override {
    const absl::MutexLock lock(&mutex_);
    all_.steps.push_back(step);
  }
  void OnFirstToken(absl::Duration since_submit) override {
    const absl::MutexLock lock(&mutex_);
    all_.first.push_back(since_submit);
  }
  void OnNextToken(absl::Duration since_last) override {
    const absl::MutexLock lock(&mutex_);
    all_.next.push_back(since_last);
  }
  void OnEnd(const RequestRecord& request) override {
    const absl::MutexLock lock(&mutex_);
    all_.ended.push_back(request);
  }

  // What was told since the last call.
  All Take() {
    const absl::MutexLock lock(&mutex_);
    return std::exchange(all_, {});
  }

 private:
  absl::Mutex mutex_;
  All all_ ABSL_GUARDED_BY(mutex_);
};

// Holds the engine thread at its first token, so that a test can do what it likes in the middle of
// a request.
class GatedSink final : public RequestSink {
 public:
  void OnAdmitted() override {}
  void OnLogits(int64_t /*position*/, std::span<const float> /*logits*/) override {}
  void OnPromptScores(int64_t /*position*/, std::span<const TokenLogProb> /*scores*/) override {}
  void OnTokens(uint32_t first_index,
                std::span<const int32_t> /*ids*/,
                std::span<const TokenLogProb> /*logprobs*/) override {
    if (first_index > 0) return;
    held_.Notify();
    open_.WaitForNotification();
  }
  void OnEnded(const Ended& /*ended*/) override { over_.Notify(); }
  void OnError(const absl::Status& /*status*/) override { over_.Notify(); }

  void WaitUntilHeld() const { held_.WaitForNotification(); }
  void Open() { open_.Notify(); }
  void WaitForEnd() const { over_.WaitForNotification(); }

 private:
  absl::Notification held_, open_, over_;
};

// A request that holds the engine at its first token, and its ticket.
std::pair<std::shared_ptr<GatedSink>, uint64_t> Hold(Engine& engine, uint32_t max_tokens) {
  auto sink = std::make_shared<GatedSink>();
  const absl::StatusOr<uint64_t> ticket = engine.Submit(Ask(1, 10, max_tokens), sink);
  EXPECT_TRUE(ticket.ok()) << ticket.status();
  sink->WaitUntilHeld();
  return {sink, ticket.value_or(0)};
}

int64_t Sum(const std::vector<StepRecord>& steps, int64_t StepRecord::*member) {
  int64_t sum = 0;
  for (const StepRecord& step : steps) sum += step.*member;
  return sum;
}

class EngineObserverTest : public testing::TestWithParam<int> {
 protected:
  std::unique_ptr<PretendWorld> Begin(EngineOptions options) {
    auto world = PretendWorld::Start({.ranks = GetParam(), .engine = options, .observer = &notes_},
                                     Factory());
    EXPECT_TRUE(world.ok()) << world.status();
    return *std::move(world);
  }

  Notes notes_;
};
INSTANTIATE_TEST_SUITE_P(Ranks, EngineObserverTest, testing::Values(1, 2));

// Read as soon as the sink has heard the end: all must be told by then.
TEST_P(EngineObserverTest, ARequestsTimesFollowEachOtherAndItsTokensAreCounted) {
  auto world = Begin(SmallEngine());  // 128 prompt tokens a step
  const SteadyTime before = SteadyNow();
  EXPECT_EQ(Submit(world->engine(), Ask(1, 300, 20))->Wait().tokens.size(), 20u);
  const SteadyTime after = SteadyNow();
  const Notes::All all = notes_.Take();
  ASSERT_EQ(all.ended.size(), 1u);
  const RequestRecord& request = all.ended[0];
  EXPECT_EQ(request.prompt_tokens, 300u);
  EXPECT_EQ(request.max_tokens, 20u);
  EXPECT_EQ(request.generated_tokens, 20u);
  EXPECT_EQ(std::get<FinishReason>(request.end), FinishReason::kLength);
  ASSERT_TRUE(request.admitted.has_value() && request.first_token.has_value());
  const std::vector<SteadyTime> times = {before,
                                         request.submitted,
                                         *request.admitted,
                                         *request.first_token,
                                         *request.last_token,
                                         request.ended,
                                         after};
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_LT(*request.admitted, *request.first_token) << "three steps lie between";
  ASSERT_EQ(all.first.size(), 1u);
  EXPECT_EQ(all.first[0], absl::FromChrono(*request.first_token - request.submitted));
  ASSERT_EQ(all.next.size(), 19u);
  absl::Duration decode;
  for (const absl::Duration next : all.next) decode += next;
  EXPECT_EQ(decode, absl::FromChrono(*request.last_token - *request.first_token));

  // Three steps of prompt, the last of which gives a token, then 19.
  ASSERT_EQ(all.steps.size(), 22u);
  EXPECT_EQ(all.steps[0].prompt_tokens, 128);
  EXPECT_EQ(all.steps[0].generated_tokens, 0);
  EXPECT_EQ(all.steps[2].prompt_tokens, 44);
  EXPECT_EQ(all.steps[2].generated_tokens, 1);
  EXPECT_EQ(Sum(all.steps, &StepRecord::prompt_tokens), 300);
  EXPECT_EQ(Sum(all.steps, &StepRecord::generated_tokens), 20);
  absl::Duration steps, decode_steps;
  for (size_t i = 0; i < all.steps.size(); ++i) {
    EXPECT_GT(all.steps[i].host_time, absl::ZeroDuration());
    EXPECT_GT(all.steps[i].run_time, absl::ZeroDuration());
    steps += all.steps[i].host_time + all.steps[i].run_time;
    if (i >= 3) decode_steps += all.steps[i].host_time + all.steps[i].run_time;
  }
  EXPECT_LE(steps, absl::FromChrono(after - before));
  // Steps that follow each other leave no time out: from before the first token is told until after
  // the last but one is.
  EXPECT_GE(decode_steps, decode - all.next.back());
}

// Idle time belongs to no step, however the loop waited through it.
TEST_P(EngineObserverTest, AStepsTimeBeginsWithItsWork) {
  for (const absl::Duration idle_after : {absl::ZeroDuration(), absl::Seconds(60)}) {
    EngineOptions options = SmallEngine();
    options.idle_after = idle_after;
    auto world = Begin(options);
    Submit(world->engine(), Ask(1, 5, 1))->Wait();
    absl::SleepFor(absl::Milliseconds(60));
    const SteadyTime before = SteadyNow();
    Submit(world->engine(), Ask(2, 5, 1))->Wait();
    const absl::Duration took = absl::FromChrono(SteadyNow() - before);
    const Notes::All all = notes_.Take();
    ASSERT_EQ(all.steps.size(), 2u);
    EXPECT_LE(all.steps[1].host_time + all.steps[1].run_time, took) << idle_after;
  }
}

TEST_P(EngineObserverTest, ARequestThatWaitsIsAdmittedWhenTheOneBeforeItEnds) {
  EngineOptions options = SmallEngine();
  options.slots = 1;
  auto world = Begin(options);
  const auto [first, ticket] = Hold(world->engine(), 30);
  const auto second = Submit(world->engine(), Ask(2, 10, 2));
  first->Open();
  second->Wait();
  const Notes::All all = notes_.Take();
  ASSERT_EQ(all.ended.size(), 2u);
  EXPECT_GE(all.ended[1].submitted, *all.ended[0].first_token);
  EXPECT_LE(all.ended[1].submitted, *all.ended[0].last_token);
  EXPECT_GE(*all.ended[1].admitted, *all.ended[0].last_token);
  EXPECT_EQ(all.first[1], absl::FromChrono(*all.ended[1].first_token - all.ended[1].submitted));
}

TEST_P(EngineObserverTest, EveryEndIsToldOnceHoweverItComes) {
  EngineOptions options = SmallEngine();
  options.slots = 1;
  auto world = Begin(options);
  Engine& engine = world->engine();
  const auto [running, ticket] = Hold(engine, 30);
  Request late = Ask(2, 10, 5);
  late.deadline = absl::Now() + absl::Milliseconds(500);
  const auto expired = Submit(engine, late);
  const auto waiting = Submit(engine, Ask(3, 10, 5));
  engine.Abort({"request-3"});
  engine.Cancel(ticket);
  absl::SleepFor(late.deadline - absl::Now());
  running->Open();
  expired->Wait();
  waiting->Wait();
  running->WaitForEnd();
  Request whole = Ask(4, 10, 2);
  whole.generated = {1, 2};
  Submit(engine, whole)->Wait();
  Request resumed = Ask(5, 10, 9);
  resumed.generated = {1, 2, 3, 4};
  Submit(engine, resumed)->Wait();

  const Notes::All all = notes_.Take();
  ASSERT_EQ(all.ended.size(), 5u);
  // What is too late when the engine takes it is refused before the ends that were asked for.
  EXPECT_EQ(std::get<v1::ErrorCode>(all.ended[0].end), v1::ERROR_CODE_DEADLINE);
  EXPECT_FALSE(all.ended[0].admitted.has_value());
  const RequestRecord& aborted = all.ended[1];
  EXPECT_EQ(std::get<FinishReason>(aborted.end), FinishReason::kCancelled);
  EXPECT_FALSE(aborted.admitted.has_value());
  EXPECT_GE(aborted.ended, aborted.submitted);
  const RequestRecord& cancelled = all.ended[2];
  EXPECT_EQ(std::get<FinishReason>(cancelled.end), FinishReason::kCancelled);
  EXPECT_EQ(cancelled.generated_tokens, 1u);
  EXPECT_EQ(cancelled.first_token, cancelled.last_token);
  // A complete answer that was resumed gets no token; of another one only the new ones count.
  EXPECT_TRUE(all.ended[3].admitted.has_value());
  EXPECT_FALSE(all.ended[3].first_token.has_value());
  EXPECT_EQ(all.ended[3].generated_tokens, 0u);
  EXPECT_EQ(all.ended[4].generated_tokens, 5u);
  EXPECT_EQ(all.ended[4].prompt_tokens, 10u);
  EXPECT_EQ(all.first.size(), 2u);
  EXPECT_EQ(all.next.size(), 4u);
  EXPECT_EQ(Sum(all.steps, &StepRecord::generated_tokens), 1 + 5);
  EXPECT_EQ(Sum(all.steps, &StepRecord::prompt_tokens), 10 + 14);
  EXPECT_TRUE(all.refused.empty());
}

TEST_P(EngineObserverTest, AStreamThatItsDeadlineEndedIsNoCancellation) {
  auto world = Begin(SmallEngine());
  const auto [running, ticket] = Hold(world->engine(), 30);
  world->engine().Expire(ticket);
  running->Open();
  running->WaitForEnd();
  world->engine().Expire(ticket);  // and once more, too late
  Submit(world->engine(), Ask(2, 5, 1))->Wait();
  const Notes::All all = notes_.Take();
  ASSERT_EQ(all.ended.size(), 2u);
  EXPECT_EQ(std::get<v1::ErrorCode>(all.ended[0].end), v1::ERROR_CODE_DEADLINE);
  EXPECT_EQ(all.ended[0].generated_tokens, 1u);
}

TEST_P(EngineObserverTest, RefusalsAreToldByTheirCode) {
  EngineOptions options = SmallEngine();
  options.slots = 1;
  options.max_queue = 1;
  auto world = Begin(options);
  Engine& engine = world->engine();
  const auto sink = std::make_shared<CollectingSink>();
  EXPECT_FALSE(engine.Submit(Ask(1, 0, 5), sink).ok());
  EXPECT_FALSE(engine.Submit(Ask(1, 10, 5000), sink).ok());
  const auto [running, ticket] = Hold(engine, 30);
  const auto waiting = Submit(engine, Ask(3, 10, 5));
  EXPECT_FALSE(engine.Submit(Ask(4, 10, 5), sink).ok());
  engine.BeginDrain(absl::InfiniteFuture(), /*hand_over=*/true);
  EXPECT_FALSE(engine.Submit(Ask(5, 10, 5), sink).ok());
  running->Open();
  running->WaitForEnd();
  waiting->Wait();
  const Notes::All all = notes_.Take();
  EXPECT_THAT(all.refused,
              ElementsAre(v1::ERROR_CODE_INVALID_FIELD, v1::ERROR_CODE_CONTEXT_TOO_LONG,
                          v1::ERROR_CODE_QUEUE_FULL, v1::ERROR_CODE_DRAINING));
  ASSERT_EQ(all.ended.size(), 2u);
  for (const RequestRecord& request : all.ended) {
    EXPECT_EQ(std::get<v1::ErrorCode>(request.end), v1::ERROR_CODE_DRAINING);
  }
}

TEST(EngineObserverTest, TheEndOfAWorldIsTheEndOfItsRequests) {
  Notes notes;
  auto world =
      PretendWorld::Start({.ranks = 2, .engine = SmallEngine(), .observer = &notes}, Factory());
  ASSERT_TRUE(world.ok()) << world.status();
  const auto [sink, ticket] = Hold((*world)->engine(), 30);
  (*world)->Break();
  sink->Open();
  sink->WaitForEnd();
  const Notes::All all = notes.Take();
  ASSERT_EQ(all.ended.size(), 1u);
  EXPECT_EQ(std::get<v1::ErrorCode>(all.ended[0].end), v1::ERROR_CODE_WORLD_LOST);
}

}  // namespace
}  // namespace deltaserve
