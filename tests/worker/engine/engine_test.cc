// Engine, followers and executor over PretendWorld, with a model whose logits tell its history.

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/worker/engine/collecting_sink.h"
#include "tests/worker/engine/fake_model.h"
#include "tests/worker/engine/pretend_world.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;

constexpr FakeModelOptions kModel;

PretendModelFactory Factory(FakeModelOptions options = kModel) {
  return [options](World& world, Device&, Communicator&, int64_t) {
    return CreateFakeModel(options, world.info().rank, world.info().size);
  };
}

// Blocks of the fake model are 64 keys and 64 values of one float.
constexpr int64_t kBlockBytes = 512;

EngineOptions SmallEngine() {
  return {.slots = 8, .kv_memory = 64 * kBlockBytes, .token_budget = 128, .max_queue = 64};
}

std::unique_ptr<PretendWorld> Start(int ranks, const EngineOptions& options) {
  auto world = PretendWorld::Start({.ranks = ranks, .engine = options}, Factory());
  EXPECT_TRUE(world.ok()) << world.status();
  return *std::move(world);
}

std::vector<int32_t> Prompt(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(length);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 101);
  return ids;
}

Request Ask(uint32_t seed, size_t length, uint32_t max_tokens) {
  Request request;
  request.id = "request-" + std::to_string(seed);
  request.prompt = Prompt(seed, length);
  request.sampling.temperature = 0;
  request.sampling.seed = seed;
  request.max_tokens = max_tokens;
  return request;
}

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

std::shared_ptr<CollectingSink> Submit(Engine& engine, Request request) {
  auto sink = std::make_shared<CollectingSink>(static_cast<uint32_t>(request.generated.size()));
  const absl::StatusOr<uint64_t> ticket = engine.Submit(std::move(request), sink);
  EXPECT_TRUE(ticket.ok()) << ticket.status();
  return sink;
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

// Nothing is held on any rank and all ranks agree. Right after the last sink has heard its end: the
// load must know by then.
void ExpectAllFree(PretendWorld& world, int ranks) {
  const EngineLoad load = world.engine().load();
  EXPECT_EQ(load.running, 0u);
  EXPECT_EQ(load.waiting, 0u);
  EXPECT_EQ(load.waiting_tokens, 0u);
  EXPECT_EQ(load.kv_blocks_used, 0u);
  EXPECT_EQ(load.slots_used, 0u);
  for (const absl::Status& status : world.End()) EXPECT_TRUE(status.ok()) << status;
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(world.executor(rank).slots().num_open(), 0);
    EXPECT_EQ(world.executor(rank).slots().Digest(), world.executor(0).slots().Digest());
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

// A sink that keeps the engine thread until it is let go.
class Gate final : public RequestSink {
 public:
  void OnAdmitted() override { open_.WaitForNotification(); }
  void OnLogits(int64_t, std::span<const float>) override {}
  void OnTokens(uint32_t, std::span<const int32_t>, std::span<const TokenLogProb>) override {}
  void OnEnded(const Ended&) override {}
  void OnError(const absl::Status&) override {}
  void Open() { open_.Notify(); }

 private:
  absl::Notification open_;
};

TEST(EngineTest, RefusesWhatTheQueueCannotHold) {
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

TEST(EngineTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
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

TEST(EngineTest, HandOverEndsRequestsSoThatAnotherWorldTakesThem) {
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

TEST(EngineTest, DrainDeadlineEndsWhatStillRuns) {
  auto world = Start(1, SmallEngine());
  const auto sink = Submit(world->engine(), Ask(1, 100, 1900));
  sink->WaitForTokens(1);
  world->engine().BeginDrain(absl::Now() - absl::Seconds(1), /*hand_over=*/false);
  EXPECT_EQ(DetailOf(*sink->Wait().error).code(), v1::ERROR_CODE_DRAINING);
}

TEST(EngineTest, ABrokenWorldTellsEveryRequest) {
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

TEST(EngineTest, CapacityIsWhatTheFlagsGive) {
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

TEST(EngineTest, KvMemoryForLessThanABlockIsRefusedOnEveryRank) {
  EngineOptions options = SmallEngine();
  options.kv_memory = kBlockBytes - 1;
  const auto world = PretendWorld::Start({.ranks = 2, .engine = options}, Factory());
  EXPECT_TRUE(absl::IsInvalidArgument(world.status()));
  EXPECT_THAT(std::string(world.status().message()),
              HasSubstr("--kv-memory is 511 bytes: one block of 64 tokens takes 512"));
}

TEST(EngineTest, RanksOfDifferentModelsDoNotStart) {
  const auto world = PretendWorld::Start(
      {.ranks = 2, .engine = SmallEngine()},
      [](World& each, Device&, Communicator&, int64_t) -> absl::StatusOr<std::unique_ptr<Model>> {
        const int rank = each.info().rank;
        return CreateFakeModel({.max_context = 1000 + rank}, rank, 2);
      });
  EXPECT_TRUE(absl::IsInvalidArgument(world.status()));
  EXPECT_THAT(std::string(world.status().message()), HasSubstr("rank 1 was started with"));
}

TEST(EngineTest, AFailingModelNamesItsCause) {
  const auto world = PretendWorld::Start(
      {.ranks = 2, .engine = SmallEngine()},
      [](World& each, Device&, Communicator&, int64_t) -> absl::StatusOr<std::unique_ptr<Model>> {
        if (each.info().rank == 1) return absl::NotFoundError("no weights here");
        return CreateFakeModel(kModel, 0, 2);
      });
  EXPECT_EQ(world.status(), absl::NotFoundError("no weights here"));
}

TEST(EngineTest, ExitCodesTellCausesApart) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), 64);
  EXPECT_EQ(ExitCodeOf(absl::DataLossError("")), 72);
  EXPECT_EQ(ExitCodeOf(absl::InternalError("")), 70);
}

}  // namespace
}  // namespace deltaserve
