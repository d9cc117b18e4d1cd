// How requests and worlds begin and end: cancel, abort, queue, drain, failure, start.

#include <memory>
#include <optional>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/worker/engine/small_world.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

// A sink that keeps the engine thread: at OnAdmitted, or at the token of index `at`.
class Gate final : public RequestSink {
 public:
  explicit Gate(int64_t at = -1) : at_(at) {}

  void OnAdmitted() override { Pass(-1); }
  void OnLogits(int64_t, std::span<const float>) override {}
  void OnPromptScores(int64_t, std::span<const TokenLogProb>) override {}
  void OnTokens(uint32_t first_index,
                std::span<const int32_t>,
                std::span<const TokenLogProb>) override {
    num_tokens_ = first_index + 1;
    Pass(first_index);
  }
  void OnEnded(const Ended& ended) override {
    ended_ = ended;
    over_.Notify();
  }
  void OnError(const absl::Status&) override { over_.Notify(); }

  void WaitUntilReached() { reached_.WaitForNotification(); }
  void Open() { open_.Notify(); }
  // After the end.
  std::optional<Ended> WaitForEnd() {
    over_.WaitForNotification();
    return ended_;
  }
  uint32_t num_tokens() const { return num_tokens_; }

 private:
  void Pass(int64_t index) {
    if (index != at_) return;
    reached_.Notify();
    open_.WaitForNotification();
  }

  const int64_t at_;
  uint32_t num_tokens_ = 0;
  std::optional<Ended> ended_;
  absl::Notification reached_, open_, over_;
};

TEST(EngineControlTest, CancelEndsARunningRequestAtTheNextStep) {
  auto world = Start(2, SmallEngine());
  const auto gate = std::make_shared<Gate>(4);
  const auto ticket = world->engine().Submit(Ask(1, 10, 1900), gate);
  ASSERT_TRUE(ticket.ok());
  gate->WaitUntilReached();
  world->engine().Cancel(*ticket);
  gate->Open();
  const std::optional<Ended> ended = gate->WaitForEnd();
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended->reason, FinishReason::kCancelled);
  EXPECT_EQ(ended->completion_tokens, 5u);
  EXPECT_EQ(gate->num_tokens(), 5u);
  ExpectAllFree(*world, 2);
}

TEST(EngineControlTest, AbortEndsEveryStreamOfAnIdAndNamesWhatItFound) {
  EngineOptions options = SmallEngine();
  options.slots = 1;
  auto world = Start(1, options);
  const auto gate = std::make_shared<Gate>(2);
  Request first = Ask(1, 10, 1900);
  ASSERT_TRUE(world->engine().Submit(first, gate).ok());
  first.sample_index = 1;  // another sample of the same request, waiting
  const auto second = Submit(world->engine(), first);
  const auto other = Submit(world->engine(), Ask(2, 10, 3));
  gate->WaitUntilReached();
  EXPECT_THAT(world->engine().Abort({"nobody", first.id}), ::testing::ElementsAre(first.id));
  gate->Open();
  EXPECT_EQ(gate->WaitForEnd()->completion_tokens, 3u);
  EXPECT_EQ(second->Wait().ended->reason, FinishReason::kCancelled);
  EXPECT_FALSE(second->Now().admitted);
  EXPECT_EQ(other->Wait().tokens.size(), 3u);
  EXPECT_THAT(world->engine().Abort({first.id}), ::testing::IsEmpty());
}

TEST(EngineControlTest, RefusesWhatTheQueueCannotHold) {
  EngineOptions options = SmallEngine();
  options.slots = 1;
  options.max_queue = 2;
  auto world = Start(1, options);
  Engine& engine = world->engine();
  const auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(engine.Submit(Ask(0, 5, 5), gate).ok());
  const auto second = Submit(engine, Ask(1, 5, 5));
  const auto third = Submit(engine, Ask(2, 5, 5));
  const auto refused = engine.Submit(Ask(3, 5, 5), std::make_shared<CollectingSink>());
  const v1::ErrorDetail detail = DetailOf(refused.status());
  EXPECT_EQ(detail.code(), v1::ERROR_CODE_QUEUE_FULL);
  EXPECT_TRUE(detail.retryable());
  EXPECT_GE(detail.retry_after().seconds(), 1);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("the queue holds 2"));
  gate->Open();
  EXPECT_EQ(second->Wait().tokens.size(), 5u);
  EXPECT_EQ(third->Wait().tokens.size(), 5u);
  EXPECT_EQ(engine.load().requests_seen, 3u);
}

TEST(EngineControlTest, RefusesTokensThatTheQueueCannotHoldUnlessTheyWaitAlone) {
  EngineOptions options = SmallEngine();
  options.slots = 1;
  options.max_queue_tokens = 40;
  auto world = Start(1, options);
  Engine& engine = world->engine();
  const auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(engine.Submit(Ask(0, 500, 5), gate).ok());  // takes the slot
  gate->WaitUntilReached();
  const auto alone = Submit(engine, Ask(1, 50, 5));
  const auto refuse = [&] {
    const auto refused = engine.Submit(Ask(2, 1, 5), std::make_shared<CollectingSink>());
    const v1::ErrorDetail detail = DetailOf(refused.status());
    EXPECT_EQ(detail.code(), v1::ERROR_CODE_QUEUE_FULL);
    EXPECT_EQ(detail.field(), "max_queue_tokens");
    EXPECT_EQ(detail.value(), "40");
    EXPECT_GE(detail.retry_after().seconds(), 1);
  };
  refuse();
  gate->Open();
  EXPECT_EQ(alone->Wait().tokens.size(), 5u);
  Request resumed = Ask(3, 5, 50);  // its own tokens count as a prompt's
  resumed.generated = Prompt(3, 36);
  const auto second = std::make_shared<Gate>();
  ASSERT_TRUE(engine.Submit(Ask(4, 5, 5), second).ok());
  second->WaitUntilReached();
  const auto waiting = Submit(engine, resumed);
  refuse();
  second->Open();
  EXPECT_EQ(waiting->Wait().tokens.size(), 14u);
}

// A model whose steps last at least as long as they are told to.
class SlowModel final : public Model {
 public:
  SlowModel(std::unique_ptr<Model> model, absl::Duration step)
      : model_(std::move(model)), step_(step) {}

  const ModelConfig& config() const override { return model_->config(); }
  const ShardPlan& plan() const override { return model_->plan(); }
  size_t weight_bytes() const override { return model_->weight_bytes(); }
  KvCacheShape kv_shape(int64_t blocks) const override { return model_->kv_shape(blocks); }
  RecurrentStateShape state_shape(int64_t states) const override {
    return model_->state_shape(states);
  }
  void Forward(const ForwardBatch& batch, ExecContext& context, TensorView logits) override {
    absl::SleepFor(step_);
    model_->Forward(batch, context, logits);
  }

 private:
  const std::unique_ptr<Model> model_;
  const absl::Duration step_;
};

TEST(EngineControlTest, RefusesDeadlinesThatCannotBeMet) {
  EngineOptions options = SmallEngine();
  options.token_budget = 0;
  options.step_target = absl::ZeroDuration();  // 64 tokens a step
  const auto world = *PretendWorld::Start(
      {.ranks = 1, .engine = options},
      [](World& each, Device&) -> absl::StatusOr<std::unique_ptr<Model>> {
        return std::make_unique<SlowModel>(*CreateFakeModel(kModel, each.info().rank, 1),
                                           absl::Milliseconds(50));
      });
  Engine& engine = world->engine();
  Request late = Ask(1, 64, 5);
  late.deadline = absl::Now() - absl::Seconds(1);
  const auto refused = engine.Submit(late, std::make_shared<CollectingSink>());
  EXPECT_EQ(DetailOf(refused.status()).code(), v1::ERROR_CODE_DEADLINE);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("had passed when the request"));
  // 60 steps of 50 ms are needed.
  Request tight = Ask(2, 3840, 5);
  tight.deadline = absl::Now() + absl::Seconds(2);
  const auto received = Submit(engine, tight)->Wait();
  ASSERT_TRUE(received.error.has_value());
  EXPECT_FALSE(received.admitted);
  EXPECT_EQ(DetailOf(*received.error).code(), v1::ERROR_CODE_DEADLINE);
  EXPECT_THAT(
      std::string(received.error->message()),
      ::testing::AllOf(HasSubstr("the deadline is in 1."), HasSubstr("3840 prompt tokens")));
  Request wide = Ask(3, 64, 2);
  wide.deadline = absl::Now() + absl::Minutes(1);
  EXPECT_EQ(Submit(engine, wide)->Wait().tokens.size(), 2u);
  EXPECT_EQ(engine.load().waiting_tokens, 0u);
}

// A free slot is of no use to who finds too few blocks: it waits, and is counted.
TEST(EngineControlTest, FreeSlotsTakeNobodyWhileBlocksAreShort) {
  EngineOptions options = SmallEngine();
  options.kv_memory = 4 * kBlockBytes;
  options.max_queue = 2;
  auto world = Start(1, options);
  Engine& engine = world->engine();
  const auto gate = std::make_shared<Gate>(1);
  ASSERT_TRUE(engine.Submit(Ask(1, 5, 240), gate).ok());  // all blocks
  gate->WaitUntilReached();
  const auto second = Submit(engine, Ask(2, 5, 5));
  const auto third = Submit(engine, Ask(3, 5, 5));
  EXPECT_EQ(engine.load().waiting, 2u);
  EXPECT_EQ(engine.load().slots_used, 1u);
  EXPECT_EQ(engine.load().kv_blocks_used, 4u);
  EXPECT_EQ(engine.load().waiting_tokens, 10u);
  const auto refused = engine.Submit(Ask(4, 5, 5), std::make_shared<CollectingSink>());
  EXPECT_EQ(DetailOf(refused.status()).code(), v1::ERROR_CODE_QUEUE_FULL);
  gate->Open();
  EXPECT_EQ(second->Wait().tokens.size(), 5u);
  EXPECT_EQ(third->Wait().tokens.size(), 5u);
}

TEST(EngineControlTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
  auto world = Start(2, SmallEngine());
  Engine& engine = world->engine();
  const auto gate = std::make_shared<Gate>();
  ASSERT_TRUE(engine.Submit(Ask(0, 5, 5), gate).ok());
  const Request request = Ask(1, 100, 50);
  const auto running = Submit(engine, request);
  engine.BeginDrain(absl::InfiniteFuture(), /*hand_over=*/false);
  const auto refused = engine.Submit(Ask(2, 5, 5), std::make_shared<CollectingSink>());
  EXPECT_EQ(DetailOf(refused.status()).code(), v1::ERROR_CODE_DRAINING);
  gate->Open();
  EXPECT_EQ(running->Wait().tokens, FakeGreedy(request.prompt, 50, kModel.vocab_size));
  ExpectAllFree(*world, 2);
}

TEST(EngineControlTest, HandOverEndsRequestsSoThatAnotherWorldTakesThem) {
  auto world = Start(2, SmallEngine());
  Engine& engine = world->engine();
  const auto sink = Submit(engine, Ask(1, 100, 1900));
  sink->WaitForTokens(3);
  engine.BeginDrain(absl::InfiniteFuture(), /*hand_over=*/true);
  const auto received = sink->Wait();
  ASSERT_TRUE(received.error.has_value());
  EXPECT_EQ(DetailOf(*received.error).code(), v1::ERROR_CODE_DRAINING);
  EXPECT_TRUE(DetailOf(*received.error).retryable());
  ExpectAllFree(*world, 2);
}

TEST(EngineControlTest, DrainDeadlineEndsWhatStillRuns) {
  auto world = Start(1, SmallEngine());
  const auto sink = Submit(world->engine(), Ask(1, 100, 1900));
  sink->WaitForTokens(1);
  world->engine().BeginDrain(absl::Now() - absl::Seconds(1), /*hand_over=*/false);
  EXPECT_EQ(DetailOf(*sink->Wait().error).code(), v1::ERROR_CODE_DRAINING);
}

TEST(EngineControlTest, ABrokenWorldTellsEveryRequest) {
  auto world = Start(2, SmallEngine());
  const auto sink = Submit(world->engine(), Ask(1, 10, 1900));
  sink->WaitForTokens(1);
  world->Break();
  const auto received = sink->Wait();
  ASSERT_TRUE(received.error.has_value());
  EXPECT_EQ(DetailOf(*received.error).code(), v1::ERROR_CODE_WORLD_LOST);
  for (const absl::Status& status : world->End()) EXPECT_FALSE(status.ok());
  const auto refused = world->engine().Submit(Ask(2, 5, 5), std::make_shared<CollectingSink>());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
}

TEST(EngineControlTest, CapacityIsWhatTheFlagsGive) {
  EngineOptions options = SmallEngine();
  options.max_context = 1000;
  options.num_tokens = 90;
  auto world = Start(2, options);
  const EngineCapacity& capacity = world->engine().capacity();
  EXPECT_EQ(capacity.kv_blocks, 64);
  EXPECT_EQ(capacity.max_context, 1000);
  EXPECT_EQ(capacity.slots, 8);
  EXPECT_EQ(capacity.vocab_rows, 101);
  EXPECT_EQ(capacity.num_tokens, 90);
  EXPECT_EQ(capacity.kv_bytes_per_token, 8u);
  EXPECT_EQ(capacity.state_bytes_per_slot, 8u);
}

TEST(EngineControlTest, WarmUpLeavesNoTrace) {
  EngineOptions measured = SmallEngine();
  measured.token_budget = 0;
  for (const EngineOptions& options : {SmallEngine(), measured}) {
    auto world = Start(2, options);
    world->End();
    for (int rank = 0; rank < 2; ++rank) {
      const SlotTable& slots = world->executor(rank).slots();
      EXPECT_EQ(slots.Digest(), SlotTable(slots.limits()).Digest());
    }
  }
}

TEST(EngineControlTest, KvMemoryForLessThanABlockIsRefusedOnEveryRank) {
  EngineOptions options = SmallEngine();
  options.kv_memory = kBlockBytes - 1;
  const auto world = PretendWorld::Start({.ranks = 2, .engine = options}, Factory());
  EXPECT_TRUE(absl::IsInvalidArgument(world.status()));
  EXPECT_THAT(std::string(world.status().message()),
              HasSubstr("--kv-memory is 511 bytes: one block of 64 tokens takes 512"));
}

TEST(EngineControlTest, RanksOfDifferentModelsDoNotStart) {
  const auto world =
      PretendWorld::Start({.ranks = 2, .engine = SmallEngine()},
                          [](World& each, Device&) -> absl::StatusOr<std::unique_ptr<Model>> {
                            const int rank = each.info().rank;
                            return CreateFakeModel({.max_context = 1000 + rank}, rank, 2);
                          });
  EXPECT_TRUE(absl::IsInvalidArgument(world.status()));
  EXPECT_THAT(std::string(world.status().message()), HasSubstr("rank 1 was started with"));
}

TEST(EngineControlTest, AFailingModelNamesItsCause) {
  const auto world =
      PretendWorld::Start({.ranks = 2, .engine = SmallEngine()},
                          [](World& each, Device&) -> absl::StatusOr<std::unique_ptr<Model>> {
                            if (each.info().rank == 1)
                              return absl::NotFoundError("no weights here");
                            return CreateFakeModel(kModel, 0, 2);
                          });
  EXPECT_EQ(world.status(), absl::NotFoundError("no weights here"));
}

TEST(EngineControlTest, ExitCodesTellCausesApart) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), 64);
  EXPECT_EQ(ExitCodeOf(absl::DataLossError("")), 72);
  EXPECT_EQ(ExitCodeOf(absl::InternalError("")), 70);
}

}  // namespace
}  // namespace deltaserve
