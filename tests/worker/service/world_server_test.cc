#include "worker/service/world_server.h"

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "proto/grpc_server.h"
#include "proto/grpc_status.h"
#include "proto/text_digest.h"
#include "tests/worker/service/fake_engine.h"
#include "tests/worker/service/raw_client.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorldInfo Info() {
  WorldInfo info;
  info.model_id = "tiny";
  info.weights_fingerprint = "abc";
  info.text_assets = {{"empty", ""}, {"tokenizer.json", std::string(5 << 19, 't') + "end"}};
  info.eos_token_ids = {2, 3};
  info.generation_defaults_json = "{}";
  info.capabilities = {"logprobs"};
  info.layout.set_ranks(2);
  info.numerics.set_kv("f32");
  info.ranks.emplace_back().set_host("here");
  return info;
}

v1::TokenRequest Good(const std::string& id = "r1") {
  v1::TokenRequest request;
  request.set_request_id(id);
  request.add_prompt_ids(5);
  request.mutable_sampling()->set_seed(7);
  request.mutable_stop()->set_max_tokens(1000000);
  return request;
}

void SendToken(RequestSink& sink, uint32_t index, int32_t id) {
  sink.OnTokens(index, std::vector<int32_t>{id}, {});
}

Ended StoppedBy(int32_t eos) {
  Ended ended;
  ended.reason = FinishReason::kStop;
  ended.eos_token_id = eos;
  ended.prompt_tokens = 1;
  ended.completion_tokens = 3;
  return ended;
}

class WorldServerTest : public testing::Test {
 protected:
  void SetUp() override { Restart({.tick = absl::Milliseconds(5)}); }

  void Restart(const WorldServerOptions& options) {
    server_.reset();
    auto server = WorldServer::Start(options, Info(), &engine_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::World::NewStub(grpc::CreateCustomChannel(
        server_->address(), grpc::InsecureChannelCredentials(), ClientChannelArguments()));
  }

  // A call that cannot outlast the test's patience.
  static std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    return context;
  }

  // A whole request, to see that the server is up and well.
  void ExpectServes() {
    const auto context = Context();
    const auto reader = stub_->Generate(context.get(), Good("well"));
    Submitted submitted = engine_.Next();
    ASSERT_NE(submitted.sink, nullptr);
    submitted.sink->OnAdmitted();
    SendToken(*submitted.sink, 0, 2);
    submitted.sink->OnEnded(StoppedBy(2));
    v1::TokenEvent event;
    int events = 0;
    while (reader->Read(&event)) ++events;
    EXPECT_EQ(events, 3);
    EXPECT_TRUE(reader->Finish().ok());
  }

  FakeEngine engine_;
  std::unique_ptr<WorldServer> server_;
  std::unique_ptr<v1::World::Stub> stub_;
};

TEST_F(WorldServerTest, DescribesWhatItServes) {
  v1::WorldDescription description;
  ASSERT_TRUE(stub_->Describe(Context().get(), {}, &description).ok());
  EXPECT_EQ(description.instance_id().size(), 32u);
  ASSERT_EQ(description.models_size(), 1);
  const v1::ServedModel& model = description.models(0);
  EXPECT_EQ(model.id(), "tiny");
  EXPECT_EQ(model.weights_fingerprint(), "abc");
  EXPECT_EQ(model.text_digest(), TextDigest(Info().text_assets));
  EXPECT_EQ(model.max_context(), 4096u);
  EXPECT_EQ(model.vocab_rows(), 1024u);
  EXPECT_EQ(model.num_tokens(), 1000u);
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(2, 3));
  EXPECT_EQ(description.layout().ranks(), 2u);
  EXPECT_EQ(description.numerics().kv(), "f32");
  EXPECT_EQ(description.capacity().slots(), 8u);
  EXPECT_EQ(description.ranks(0).host(), "here");
  const std::string first = description.instance_id();
  Restart({});
  ASSERT_TRUE(stub_->Describe(Context().get(), {}, &description).ok());
  EXPECT_NE(description.instance_id(), first);
}

TEST_F(WorldServerTest, ServesTextFilesInChunksThatJoinToTheFiles) {
  const auto context = Context();
  const auto reader = stub_->GetTextAssets(context.get(), {});
  std::map<std::string, std::string> files;
  int chunks = 0;
  int last = 0;
  v1::AssetChunk chunk;
  while (reader->Read(&chunk)) {
    std::string& bytes = files[chunk.name()];
    EXPECT_EQ(chunk.offset(), bytes.size());
    bytes += chunk.data();
    ++chunks;
    last += chunk.last() ? 1 : 0;
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(files, Info().text_assets);
  EXPECT_EQ(chunks, 1 + 3);
  EXPECT_EQ(last, 2);
}

TEST_F(WorldServerTest, PagesOfAPromptsScoresComeAsTheyWereMade) {
  v1::TokenRequest request = Good();
  request.mutable_output()->set_prompt_logprobs(2);
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), request);
  Submitted submitted = engine_.Next();
  ASSERT_NE(submitted.sink, nullptr);
  EXPECT_EQ(submitted.request.prompt_logprobs, 2u);
  submitted.sink->OnAdmitted();
  const std::vector<TokenLogProb> first = {
      {.id = 7, .logprob = -1.5F, .rank = 3, .top = {{8, -0.5F}, {9, -0.75F}}}, {.id = 6}};
  submitted.sink->OnPromptScores(1, first);
  submitted.sink->OnPromptScores(3, std::vector<TokenLogProb>{{.id = 5, .logprob = -2}});
  SendToken(*submitted.sink, 0, 2);
  submitted.sink->OnEnded(StoppedBy(2));
  std::vector<v1::TokenEvent> events(1);
  while (reader->Read(&events.back())) events.emplace_back();
  EXPECT_TRUE(reader->Finish().ok());
  ASSERT_EQ(events.size(), 6u);  // the last is empty
  const v1::TokenEvent::PromptScores& page = events[1].prompt_scores();
  EXPECT_EQ(page.first_position(), 1u);
  ASSERT_EQ(page.tokens_size(), 2);
  EXPECT_EQ(page.tokens(0).token_id(), 7u);
  EXPECT_EQ(page.tokens(0).logprob(), -1.5F);
  EXPECT_EQ(page.tokens(0).rank(), 3u);
  ASSERT_EQ(page.tokens(0).top_size(), 2);
  EXPECT_EQ(page.tokens(0).top(1).token_id(), 9u);
  EXPECT_EQ(page.tokens(0).top(1).logprob(), -0.75F);
  EXPECT_EQ(events[2].prompt_scores().first_position(), 3u);
  EXPECT_EQ(events[2].prompt_scores().tokens(0).token_id(), 5u);
  EXPECT_TRUE(events[3].has_tokens());
}

TEST_F(WorldServerTest, SendsNoTextFilesToWhoHasThem) {
  v1::GetTextAssetsRequest request;
  request.set_have_digest(TextDigest(Info().text_assets));
  v1::AssetChunk chunk;
  const auto context = Context();
  const auto reader = stub_->GetTextAssets(context.get(), request);
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
  request.set_model("other");
  const auto other = Context();
  const auto refused = stub_->GetTextAssets(other.get(), request);
  EXPECT_FALSE(refused->Read(&chunk));
  EXPECT_EQ(DetailOf(FromGrpcStatus(refused->Finish())).code(), v1::ERROR_CODE_MODEL_NOT_FOUND);
}

TEST_F(WorldServerTest, WatchReportsEveryChangeOfStateAtOnce) {
  v1::WatchRequest request;
  request.set_min_interval_ms(3600 * 1000);  // so that only changes are reported
  const auto context = Context();
  const auto reader = stub_->Watch(context.get(), request);
  v1::WorldReport report;
  ASSERT_TRUE(reader->Read(&report));
  EXPECT_EQ(report.state(), v1::WorldReport::STATE_STARTING);
  EXPECT_EQ(report.sequence(), 1u);
  EngineLoad load;
  load.running = 3;
  load.waiting_tokens = 77;
  engine_.SetLoad(load);
  server_->SetReady();
  ASSERT_TRUE(reader->Read(&report));
  EXPECT_EQ(report.state(), v1::WorldReport::STATE_READY);
  EXPECT_EQ(report.sequence(), 2u);
  EXPECT_EQ(report.load().running(), 3u);
  EXPECT_EQ(report.load().waiting_tokens(), 77u);
  load.last_step_age = absl::Seconds(75);
  engine_.SetLoad(load);
  ASSERT_TRUE(reader->Read(&report));
  EXPECT_EQ(report.state(), v1::WorldReport::STATE_DEGRADED);
  EXPECT_EQ(report.last_step_age_ms(), 75000u);
  EXPECT_THAT(report.cause(), HasSubstr("1m15s"));
  server_->SetNotReady("rank 1 on here was lost");
  ASSERT_TRUE(reader->Read(&report));
  EXPECT_EQ(report.state(), v1::WorldReport::STATE_NOT_READY);
  EXPECT_EQ(report.cause(), "rank 1 on here was lost");
}

TEST_F(WorldServerTest, WatchReportsAtItsInterval) {
  v1::WatchRequest request;
  request.set_min_interval_ms(1);
  const auto context = Context();
  const auto reader = stub_->Watch(context.get(), request);
  v1::WorldReport report;
  for (uint64_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(reader->Read(&report));
    EXPECT_EQ(report.sequence(), i);
  }
}

TEST_F(WorldServerTest, StreamsStepsInOrderWithTheirScores) {
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), Good());
  const Submitted submitted = engine_.Next();
  EXPECT_EQ(submitted.request.id, "r1");
  EXPECT_LT(submitted.request.deadline, absl::Now() + 2 * kPatience);
  v1::TokenEvent event;
  submitted.sink->OnAdmitted();
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_admitted());
  const std::vector<int32_t> ids = {11, 12};
  const std::vector<TokenLogProb> scores = {
      {.id = 11, .logprob = -0.5F, .rank = 1, .top = {{11, -0.5F}, {4, -2.0F}}},
      {.id = 12, .logprob = -1.5F, .rank = 2, .top = {}}};
  submitted.sink->OnTokens(0, ids, scores);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.tokens().first_index(), 0u);
  EXPECT_THAT(event.tokens().ids(), ElementsAre(11, 12));
  ASSERT_EQ(event.tokens().logprobs_size(), 2);
  EXPECT_EQ(event.tokens().logprobs(0).top(1).token_id(), 4u);
  EXPECT_EQ(event.tokens().logprobs(0).top(1).logprob(), -2.0F);
  EXPECT_EQ(event.tokens().logprobs(1).rank(), 2u);
  SendToken(*submitted.sink, 2, 3);
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.tokens().first_index(), 2u);
  submitted.sink->OnEnded(StoppedBy(3));
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.ended().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(event.ended().match().eos_token_id(), 3u);
  EXPECT_EQ(event.ended().usage().completion_tokens(), 3u);
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_FALSE(engine_.WasCancelled(submitted.ticket));
}

TEST_F(WorldServerTest, RefusalsCarryTheirDetailAndLeaveTheServerUp) {
  v1::TokenRequest request = Good();
  request.mutable_sampling()->set_top_p(1.5F);
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), request);
  v1::TokenEvent event;
  EXPECT_FALSE(reader->Read(&event));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const v1::ErrorDetail detail = DetailOf(FromGrpcStatus(status));
  EXPECT_EQ(detail.field(), "sampling.top_p");
  EXPECT_EQ(detail.request_id(), "r1");
  ExpectServes();
}

// Its own only: the engine tells of the others.
TEST_F(WorldServerTest, RefusalsBeforeTheEngineAreTold) {
  struct Refused final : EngineObserver {
    void OnRefused(v1::ErrorCode code) override {
      const absl::MutexLock lock(&mutex);
      codes.push_back(code);
    }
    void OnStep(const StepRecord& /*step*/) override {}
    void OnFirstToken(absl::Duration /*since_submit*/) override {}
    void OnNextToken(absl::Duration /*since_last*/) override {}
    void OnEnd(const RequestRecord& /*request*/) override {}
    absl::Mutex mutex;
    std::vector<v1::ErrorCode> codes;
  } observer;
  Restart({.tick = absl::Milliseconds(5), .observer = &observer});
  engine_.RefuseWith(UnsupportedField("engine", "", "ask another"));
  v1::TokenRequest without_prompt = Good();
  without_prompt.clear_prompt_ids();
  v1::TokenRequest other_model = Good();
  other_model.set_model("other");
  for (const v1::TokenRequest& request : {without_prompt, Good(), other_model}) {
    const auto context = Context();
    const auto reader = stub_->Generate(context.get(), request);
    v1::TokenEvent event;
    EXPECT_FALSE(reader->Read(&event));
    EXPECT_FALSE(reader->Finish().ok());
  }
  server_.reset();
  EXPECT_THAT(observer.codes,
              ElementsAre(v1::ERROR_CODE_INVALID_FIELD, v1::ERROR_CODE_MODEL_NOT_FOUND));
}

TEST_F(WorldServerTest, AnEnginesRefusalAndErrorReachTheClient) {
  v1::ErrorDetail full;
  full.set_code(v1::ERROR_CODE_QUEUE_FULL);
  full.mutable_retry_after()->set_seconds(2);
  engine_.RefuseWith(MakeError(full, "16 requests wait; try again"));
  v1::TokenEvent event;
  const auto context = Context();
  const auto refused = stub_->Generate(context.get(), Good());
  EXPECT_FALSE(refused->Read(&event));
  const v1::ErrorDetail detail = DetailOf(FromGrpcStatus(refused->Finish()));
  EXPECT_TRUE(detail.retryable());
  EXPECT_EQ(detail.retry_after().seconds(), 2);
  engine_.RefuseWith(absl::OkStatus());

  const auto later = Context();
  const auto reader = stub_->Generate(later.get(), Good());
  const Submitted submitted = engine_.Next();
  submitted.sink->OnAdmitted();
  SendToken(*submitted.sink, 0, 1);
  v1::ErrorDetail draining;
  draining.set_code(v1::ERROR_CODE_DRAINING);
  submitted.sink->OnError(MakeError(draining, "the world drains"));
  EXPECT_TRUE(reader->Read(&event));
  EXPECT_TRUE(reader->Read(&event));  // what came before the error is not lost
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// How far a stream gets before its client cancels.
enum class Reached { kQueued, kAdmitted, kTokens, kTokensUnread, kEndedUnread };

class CancelTest : public WorldServerTest, public testing::WithParamInterface<Reached> {};

TEST_P(CancelTest, FreesTheRequestAndHarmsNothing) {
  const Reached reached = GetParam();
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), Good());
  const Submitted submitted = engine_.Next();
  v1::TokenEvent event;
  if (reached != Reached::kQueued) {
    submitted.sink->OnAdmitted();
    ASSERT_TRUE(reader->Read(&event));
  }
  if (reached == Reached::kTokens) {
    SendToken(*submitted.sink, 0, 1);
    ASSERT_TRUE(reader->Read(&event));
  }
  if (reached == Reached::kTokensUnread) SendToken(*submitted.sink, 0, 1);
  if (reached == Reached::kEndedUnread) submitted.sink->OnEnded(StoppedBy(2));
  context->TryCancel();
  if (reached != Reached::kEndedUnread) {
    EXPECT_TRUE(engine_.AwaitCancel(submitted.ticket));
  }
  // What an engine may still say, until it has seen the cancellation.
  SendToken(*submitted.sink, 1, 1);
  Ended ended;
  ended.reason = FinishReason::kCancelled;
  submitted.sink->OnEnded(ended);
  submitted.sink->OnError(absl::InternalError("too late"));
  while (reader->Read(&event)) {
  }
  const grpc::StatusCode code = reader->Finish().error_code();
  EXPECT_TRUE(code == grpc::StatusCode::CANCELLED ||
              (reached == Reached::kEndedUnread && code == grpc::StatusCode::OK))
      << code;
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(States,
                         CancelTest,
                         testing::Values(Reached::kQueued,
                                         Reached::kAdmitted,
                                         Reached::kTokens,
                                         Reached::kTokensUnread,
                                         Reached::kEndedUnread));

TEST_F(WorldServerTest, CancelsThatRaceWithTheEndLeaveNothingBehind) {
  std::mt19937 random(1);
  for (int round = 0; round < 150; ++round) {
    const auto context = Context();
    const auto reader = stub_->Generate(context.get(), Good());
    const Submitted submitted = engine_.Next();
    ASSERT_NE(submitted.sink, nullptr);
    const uint32_t steps = random() % 4;
    std::thread engine([&submitted, steps] {
      submitted.sink->OnAdmitted();
      for (uint32_t i = 0; i < steps; ++i) SendToken(*submitted.sink, i, 1);
      submitted.sink->OnEnded(StoppedBy(2));
    });
    v1::TokenEvent event;
    for (uint32_t reads = random() % 4; reads > 0; --reads) reader->Read(&event);
    context->TryCancel();
    engine.join();
    while (reader->Read(&event)) {
    }
    reader->Finish();
  }
  server_->Shutdown(absl::Now() + kPatience);  // waits for every stream
}

TEST_F(WorldServerTest, AClientsDeadlineReachesTheEngineAndIsWhatEndsTheRequest) {
  // On the wire 1001 ms are 1010: then the client is gone before its deadline comes here.
  for (const int timeout_ms : {200, 1001}) {
    grpc::ClientContext context;
    const absl::Time deadline = absl::Now() + absl::Milliseconds(timeout_ms);
    context.set_deadline(absl::ToChronoTime(deadline));
    const auto reader = stub_->Generate(&context, Good());
    const Submitted submitted = engine_.Next();
    EXPECT_LE(submitted.request.deadline, deadline + absl::Milliseconds(50));
    EXPECT_TRUE(engine_.AwaitExpiry(submitted.ticket)) << timeout_ms;
    EXPECT_FALSE(engine_.WasCancelled(submitted.ticket)) << timeout_ms;
    v1::TokenEvent event;
    EXPECT_FALSE(reader->Read(&event));
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
}

TEST_F(WorldServerTest, WithoutADeadlineTheEngineHasNone) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Good());
  EXPECT_EQ(engine_.Next().request.deadline, absl::InfiniteFuture());
  context.TryCancel();
  reader->Finish();
}

TEST_F(WorldServerTest, ASlowReaderLosesNothing) {
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), Good());
  const Submitted submitted = engine_.Next();
  // More than the window of a stream holds, so that steps wait here and are joined.
  constexpr uint32_t kSteps = 100000;
  for (uint32_t i = 0; i < kSteps; ++i) {
    SendToken(*submitted.sink, i, static_cast<int32_t>(i % 1000));
  }
  submitted.sink->OnEnded(StoppedBy(2));
  uint32_t next = 0;
  uint32_t messages = 0;
  v1::TokenEvent event;
  while (reader->Read(&event)) {
    if (!event.has_tokens()) continue;
    ++messages;
    ASSERT_EQ(event.tokens().first_index(), next);
    for (const uint32_t id : event.tokens().ids()) ASSERT_EQ(id, next++ % 1000);
  }
  EXPECT_EQ(next, kSteps);
  EXPECT_LT(messages, kSteps / 2);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(WorldServerTest, AReaderThatStallsIsCutOffAndNobodyElse) {
  Restart({.stall_timeout = absl::Milliseconds(200), .tick = absl::Milliseconds(5)});
  const auto context = Context();
  const auto stalled = stub_->Generate(context.get(), Good("stalled"));
  const Submitted first = engine_.Next();
  const auto other_context = Context();
  const auto other = stub_->Generate(other_context.get(), Good("other"));
  const Submitted second = engine_.Next();
  second.sink->OnAdmitted();
  v1::TokenEvent event;
  ASSERT_TRUE(other->Read(&event));
  for (uint32_t i = 0; i < 200000; ++i) SendToken(*first.sink, i, 1);
  EXPECT_TRUE(engine_.AwaitCancel(first.ticket));
  SendToken(*second.sink, 0, 1);  // idle for longer than the limit, which is no stall
  ASSERT_TRUE(other->Read(&event));
  EXPECT_FALSE(engine_.WasCancelled(second.ticket));
  while (stalled->Read(&event)) {
  }
  EXPECT_EQ(stalled->Finish().error_code(), grpc::StatusCode::CANCELLED);
  second.sink->OnEnded(StoppedBy(2));
  ASSERT_TRUE(other->Read(&event));
  EXPECT_FALSE(other->Read(&event));
  EXPECT_TRUE(other->Finish().ok());
}

TEST_F(WorldServerTest, WhatWaitsForAReaderIsBounded) {
  Restart({.max_pending_bytes = 1000, .tick = absl::Milliseconds(5)});
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), Good());
  const Submitted submitted = engine_.Next();
  for (uint32_t i = 0; i < 200000; ++i) SendToken(*submitted.sink, i, 1);
  EXPECT_TRUE(engine_.AwaitCancel(submitted.ticket));
}

TEST_F(WorldServerTest, AbortNamesWhatItFound) {
  v1::WorldAbortRequest request;
  request.add_request_ids("a");
  request.add_request_ids("b");
  v1::WorldAbortResponse response;
  ASSERT_TRUE(stub_->Abort(Context().get(), request, &response).ok());
  EXPECT_THAT(engine_.aborted(), ElementsAre("a", "b"));
  EXPECT_THAT(response.aborted(), ElementsAre("a"));
}

TEST_F(WorldServerTest, DrainTellsTheEngineAndEndsReadiness) {
  server_->SetReady();
  v1::DrainRequest request;
  v1::DrainResponse response;
  const grpc::Status refused = stub_->Drain(Context().get(), request, &response);
  EXPECT_EQ(DetailOf(FromGrpcStatus(refused)).field(), "deadline_ms");
  EXPECT_FALSE(engine_.draining());

  RawCall watch(server_->address(), "/grpc.health.v1.Health/Watch", HealthRequest("ready"));
  EXPECT_TRUE(AwaitServing(watch, true));
  EngineLoad load;
  load.running = 2;
  load.waiting = 3;
  engine_.SetLoad(load);
  request.set_deadline_ms(5000);
  ASSERT_TRUE(stub_->Drain(Context().get(), request, &response).ok());
  EXPECT_EQ(response.left(), 5u);
  ASSERT_TRUE(engine_.drain().has_value());
  EXPECT_FALSE(engine_.drain()->second);
  EXPECT_LE(engine_.drain()->first, absl::Now() + absl::Seconds(5));
  EXPECT_TRUE(AwaitServing(watch, false));
  EXPECT_TRUE(CheckHealth(server_->address(), ""));  // alive while it drains
}

TEST_F(WorldServerTest, WatchCacheIsRefusedByName) {
  const auto context = Context();
  const auto reader = stub_->WatchCache(context.get(), {});
  v1::CacheEvent event;
  EXPECT_FALSE(reader->Read(&event));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(DetailOf(FromGrpcStatus(status)).field(), "WatchCache");
}

TEST_F(WorldServerTest, LivenessFollowsTheAgeOfTheStep) {
  RawCall watch(server_->address(), "/grpc.health.v1.Health/Watch", HealthRequest(""));
  EXPECT_TRUE(IsServing(watch.Read()));
  EXPECT_FALSE(CheckHealth(server_->address(), "ready"));  // nobody said so yet
  EngineLoad load;
  load.last_step_age = absl::Minutes(2);
  engine_.SetLoad(load);
  EXPECT_TRUE(AwaitServing(watch, false));
}

TEST_F(WorldServerTest, ReflectionListsItsServices) {
  const std::string services = ListServices(server_->address());
  EXPECT_THAT(services, HasSubstr("deltaserve.v1.World"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(WorldServerTest, APortInUseIsRefused) {
  FakeEngine engine;
  const auto second = WorldServer::Start({.listen = server_->address()}, Info(), &engine);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_->address()));
}

TEST_F(WorldServerTest, ShutdownWaitsForStreamsAndThenCancelsThem) {
  const auto context = Context();
  const auto reader = stub_->Generate(context.get(), Good());
  const Submitted submitted = engine_.Next();
  const auto watch_context = Context();
  const auto watch = stub_->Watch(watch_context.get(), {});
  server_->Shutdown(absl::Now() + absl::Milliseconds(50));
  EXPECT_TRUE(engine_.WasCancelled(submitted.ticket));
  v1::TokenEvent event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_FALSE(reader->Finish().ok());
  server_.reset();
  SendToken(*submitted.sink, 0, 1);  // the engine may hold a stream for longer than the server
}

}  // namespace
}  // namespace deltaserve
