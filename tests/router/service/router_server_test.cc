#include "router/service/router_server.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "proto/grpc_server.h"
#include "proto/grpc_status.h"
#include "router/worlds/routing_policy.h"
#include "router/worlds/world_registry.h"
#include "tests/router/service/router_fixture.h"
#include "tests/router/worlds/fake_world.h"
#include "tests/worker/service/raw_client.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLlama[] = "\xf0\x9f\xa6\x99";

TEST_F(RouterServerTest, WithoutMaxTokensTheDefaultHoldsAsFarAsTheContextDoes) {
  for (const auto& [given, resolved] : {std::pair(7u, 7u), std::pair(4096u, 198u)}) {
    Restart({.default_max_tokens = given, .tick = absl::Milliseconds(5)});
    v1::GenerateRequest request;
    for (const uint32_t id : {1, 2}) request.mutable_tokens()->add_ids(id);
    Asked asked(*stub_, request);
    const auto answer = world_.Next();
    EXPECT_EQ(answer->request.stop().max_tokens(), resolved);
  }
}

TEST_F(RouterServerTest, StreamsAnAnswerInOrder) {
  v1::GenerateRequest request = Prompt("hello world");
  request.mutable_options()->set_request_id("mine");
  request.mutable_options()->mutable_sampling()->set_seed(5);
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  const std::vector<int32_t> prompt = Ids("hello world");
  EXPECT_EQ(answer->request.request_id(), "mine");
  EXPECT_EQ(std::vector<int32_t>(answer->request.prompt_ids().begin(),
                                 answer->request.prompt_ids().end()),
            prompt);
  EXPECT_EQ(answer->request.sampling().temperature(), 0.6F);  // of generation_config.json
  EXPECT_EQ(answer->request.stop().max_tokens(), 200 - prompt.size());
  answer->Admit();
  const v1::GenerateEvent started = asked.Read();
  EXPECT_EQ(started.started().request_id(), "mine");
  EXPECT_EQ(started.started().model(), "tiny");
  EXPECT_EQ(started.started().model_fingerprint(), "abc");
  EXPECT_EQ(started.started().seed(), 5u);
  EXPECT_EQ(started.started().prompt_tokens(), prompt.size());
  EXPECT_FALSE(started.started().has_prompt());

  std::vector<int32_t> ids = Ids(absl::StrCat("x", kLlama, "!"));
  std::string text;
  uint32_t index = 0;
  for (const int32_t id : ids) answer->Tokens(index++, {id});
  answer->Tokens(index, {*tokenizer_->TokenId("<|im_end|>")});
  v1::TokenEvent end;
  end.mutable_ended()->set_reason(v1::FINISH_REASON_STOP);
  end.mutable_ended()->mutable_match()->set_eos_token_id(969);
  end.mutable_ended()->mutable_usage()->set_completion_tokens(index + 1);
  answer->Write(end);
  answer->Close(grpc::Status::OK);
  v1::GenerateEvent event = asked.Read();
  uint32_t last_index = 0;
  for (; event.has_delta(); event = asked.Read()) {
    EXPECT_GE(event.delta().first_index(), last_index);
    last_index = event.delta().first_index();
    text += event.delta().text();
    EXPECT_FALSE(event.delta().has_tokens());
  }
  EXPECT_EQ(text, absl::StrCat("x", kLlama, "!"));
  EXPECT_EQ(event.finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(event.finished().match().eos_token_id(), 969u);
  EXPECT_EQ(event.finished().usage().completion_tokens(), index + 1);
  EXPECT_TRUE(asked.Finish().ok());
}

TEST_F(RouterServerTest, DrawsSeedsAndIdsThatAreToldAndDiffer) {
  std::set<uint64_t> seeds;
  std::set<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    Asked asked(*stub_, Prompt("x"));
    const auto answer = world_.Next();
    answer->Admit();
    const v1::GenerateEvent event = asked.Read();
    EXPECT_EQ(event.started().seed(), answer->request.sampling().seed());
    EXPECT_EQ(event.started().request_id(), answer->request.request_id());
    seeds.insert(event.started().seed());
    ids.insert(event.started().request_id());
    answer->End(v1::FINISH_REASON_LENGTH, 0);
    EXPECT_TRUE(asked.Finish().ok());
  }
  EXPECT_EQ(seeds.size(), 3u);
  EXPECT_EQ(ids.size(), 3u);
}

TEST_F(RouterServerTest, EchoesThePromptFirstAndIdsWhereAsked) {
  v1::GenerateRequest request;
  for (const int32_t id : Ids("hello")) {
    request.mutable_tokens()->add_ids(static_cast<uint32_t>(id));
  }
  request.set_echo(true);
  request.mutable_options()->set_return_token_ids(true);
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  answer->Admit();
  answer->Tokens(0, Ids("ab"));
  answer->End(v1::FINISH_REASON_LENGTH, 2);
  const v1::GenerateEvent started = asked.Read();
  EXPECT_EQ(started.started().prompt().SerializeAsString(), request.tokens().SerializeAsString());
  const v1::GenerateEvent echo = asked.Read();
  EXPECT_EQ(echo.delta().text(), "hello");
  EXPECT_EQ(echo.delta().first_index(), 0u);
  EXPECT_FALSE(echo.delta().has_tokens());  // these are the answer's; the prompt's are in Started
  const v1::GenerateEvent delta = asked.Read();
  EXPECT_EQ(delta.delta().text(), "ab");
  EXPECT_EQ(delta.delta().first_index(), 0u);
  EXPECT_EQ(static_cast<size_t>(delta.delta().tokens().ids_size()), Ids("ab").size());
  EXPECT_TRUE(asked.Finish().ok());
}

TEST_F(RouterServerTest, ScoresOfThePromptComeBeforeTheAnswer) {
  v1::GenerateRequest request = Prompt("hello world");
  request.set_echo(true);
  request.mutable_options()->mutable_output()->set_prompt_logprobs(1);
  request.mutable_options()->mutable_output()->add_logprob_token_ids(17);
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  EXPECT_EQ(answer->request.output().SerializeAsString(),
            request.options().output().SerializeAsString());
  answer->Admit();
  answer->PromptScores(1, {5, 6});
  answer->PromptScores(3, {7});
  answer->Tokens(0, Ids("ab"));
  answer->End(v1::FINISH_REASON_LENGTH, 2);
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_EQ(asked.Read().delta().text(), "hello world");  // the echo
  const v1::GenerateEvent first = asked.Read();
  EXPECT_EQ(first.prompt_logprobs().first_position(), 1u);
  ASSERT_EQ(first.prompt_logprobs().tokens_size(), 2);
  EXPECT_EQ(first.prompt_logprobs().tokens(1).token_id(), 6u);
  EXPECT_EQ(first.prompt_logprobs().tokens(1).rank(), 2u);
  EXPECT_EQ(first.prompt_logprobs().tokens(1).top(0).token_id(), 7u);
  const v1::GenerateEvent second = asked.Read();
  EXPECT_EQ(second.prompt_logprobs().first_position(), 3u);
  EXPECT_EQ(asked.Read().delta().text(), "ab");
  EXPECT_TRUE(asked.Read().has_finished());
  EXPECT_TRUE(asked.Finish().ok());
}

// A reader that goes away among the pages takes the world's stream along.
TEST_F(RouterServerTest, CancelledAmongThePagesOfAPrompt) {
  v1::GenerateRequest request = Prompt("hello world");
  request.mutable_options()->mutable_output()->set_prompt_logprobs(0);
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  answer->Admit();
  answer->PromptScores(1, {5});
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_TRUE(asked.Read().has_prompt_logprobs());
  asked.Cancel();
  EXPECT_TRUE(answer->AwaitCancelled());
  ExpectServes();
}

TEST_F(RouterServerTest, ResumesWithTheNextIndex) {
  v1::GenerateRequest request = Prompt("x");
  request.mutable_options()->mutable_sampling()->set_seed(9);
  request.mutable_options()->set_continue_choice(2);
  for (const int32_t id : Ids("abc")) {
    request.mutable_options()->mutable_continue_token_ids()->add_ids(static_cast<uint32_t>(id));
  }
  const auto count = static_cast<uint32_t>(Ids("abc").size());
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  EXPECT_EQ(static_cast<uint32_t>(answer->request.generated_ids_size()), count);
  EXPECT_EQ(answer->request.sample_index(), 2u);  // with the random numbers of that choice
  answer->Admit();
  answer->Tokens(count, Ids("z"));
  EXPECT_TRUE(asked.Read().has_started());
  const v1::GenerateEvent delta = asked.Read();
  EXPECT_EQ(delta.delta().first_index(), count);
  EXPECT_EQ(delta.delta().text(), "z");
  answer->End(v1::FINISH_REASON_LENGTH, count + 1);
  EXPECT_TRUE(asked.Finish().ok());
}

struct BadRequest {
  std::string field;
  v1::ErrorCode code;
  std::string message;  // a part of it
  std::function<void(v1::GenerateRequest&)> spoil;
};

TEST_F(RouterServerTest, RefusesBadRequestsByNameAndStaysUp) {
  using R = v1::GenerateRequest;
  const auto bad = v1::ERROR_CODE_INVALID_FIELD;
  const std::vector<BadRequest> table = {
      {"prompt", bad, "set text or tokens", [](R& r) { r.clear_prompt(); }},
      {"text", bad, "text must be 1 character or more, got an empty string; send a prompt",
       [](R& r) { r.set_text(""); }},
      {"tokens", bad, "tokens must be 1 id or more", [](R& r) { r.mutable_tokens(); }},
      {"tokens[1]", bad, "got 123456",
       [](R& r) {
         r.mutable_tokens()->add_ids(1);
         r.mutable_tokens()->add_ids(123456);
       }},
      {"model", v1::ERROR_CODE_MODEL_NOT_FOUND, "model big is not served; name one of: tiny",
       [](R& r) { r.mutable_options()->set_model("big"); }},
      {"sampling.top_p", bad, "sampling.top_p must be in (0, 1], got 0; use 1 to turn it off",
       [](R& r) { r.mutable_options()->mutable_sampling()->set_top_p(0); }},
      {"n", bad, "n must be in [1, 128], got 129", [](R& r) { r.mutable_options()->set_n(129); }},
      {"prompt", v1::ERROR_CODE_CONTEXT_TOO_LONG, "prompt has 200 tokens",
       [](R& r) {
         for (int i = 0; i < 200; ++i) r.mutable_tokens()->add_ids(1);
       }},
      {"stop.max_tokens", v1::ERROR_CODE_CONTEXT_TOO_LONG, "the context holds 200",
       [](R& r) { r.mutable_options()->mutable_stop()->set_max_tokens(500); }},
  };
  for (const BadRequest& one : table) {
    SCOPED_TRACE(one.field + ": " + one.message);
    v1::GenerateRequest request = Prompt("x");
    request.mutable_options()->set_request_id("bad");
    one.spoil(request);
    Asked asked(*stub_, request);
    const absl::Status status = asked.Finish();
    const v1::ErrorDetail detail = DetailOf(status);
    EXPECT_EQ(status.code(), CodeOf(one.code));
    EXPECT_EQ(detail.code(), one.code);
    EXPECT_EQ(detail.field(), one.field);
    EXPECT_EQ(detail.request_id(), "bad");
    EXPECT_THAT(std::string(status.message()), HasSubstr(one.message));
  }
  EXPECT_EQ(world_.num_generates(), 0);
  ExpectServes();
}

TEST_F(RouterServerTest, TextThatIsNotUtf8IsRefusedWithWordsAndTheServerStaysUp) {
  for (const std::string method : {"Generate", "Tokenize", "Chat"}) {
    SCOPED_TRACE(method);
    // The second field: a text of two bytes that begin no character, or no message.
    RawCall call(server_->address(), "/deltaserve.v1.Inference/" + method, "\x12\x02\xff\xfe");
    EXPECT_FALSE(call.Read().has_value());
    const absl::Status status = FromGrpcStatus(call.Finish());
    EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_INVALID_FIELD);
    EXPECT_EQ(DetailOf(status).field(), method == "Chat" ? "request" : "text");
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(method == "Chat" ? "it is no deltaserve.v1.ChatRequest; send what"
                                           : "it is not UTF-8; send text as UTF-8"));
  }
  ExpectServes();
}

TEST_F(RouterServerTest, AWorldsRefusalReachesTheClientWithItsDetail) {
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  v1::ErrorDetail full;
  full.set_code(v1::ERROR_CODE_QUEUE_FULL);
  full.mutable_retry_after()->set_seconds(3);
  answer->Close(ToGrpcStatus(MakeError(full, "16 requests wait; try again in 3 s"), ""));
  const absl::Status status = asked.Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  const v1::ErrorDetail detail = DetailOf(status);
  EXPECT_EQ(detail.retry_after().seconds(), 3);
  EXPECT_EQ(detail.world(), world_.address());
  EXPECT_FALSE(detail.request_id().empty());
}

TEST_F(RouterServerTest, AWorldThatDiesMidStreamIsLostAndThenNoneIsReady) {
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  answer->Admit();
  answer->Tokens(0, Ids("a"));
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_EQ(asked.Read().delta().text(), "a");
  const std::string address = world_.address();
  world_.Stop();
  const absl::Status lost = asked.Finish();
  EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(DetailOf(lost).code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_TRUE(DetailOf(lost).retryable());
  EXPECT_EQ(DetailOf(lost).world(), address);
  RawCall watch(server_->address(), "/grpc.health.v1.Health/Watch", HealthRequest("ready"));
  EXPECT_TRUE(AwaitServing(watch, false));
  EXPECT_TRUE(CheckHealth(server_->address(), ""));
  Asked later(*stub_, Prompt("x"));
  const absl::Status none = later.Finish();
  EXPECT_EQ(DetailOf(none).code(), v1::ERROR_CODE_WORLD_LOST);
  EXPECT_THAT(std::string(none.message()), HasSubstr("no world is ready"));
  world_.Start(world_.port());
  EXPECT_TRUE(AwaitServing(watch, true));
  ExpectServes();
}

TEST_F(RouterServerTest, AWorldThatLosesATokenIsAnErrorAndIsCancelled) {
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  answer->Admit();
  answer->Tokens(0, Ids("a"));
  answer->Tokens(5, Ids("a"));
  EXPECT_EQ(asked.Finish().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(answer->AwaitCancelled());
}

TEST_F(RouterServerTest, AnAnswerWithoutAReasonIsLost) {
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  answer->Admit();
  answer->Close(grpc::Status::OK);
  EXPECT_EQ(DetailOf(asked.Finish()).code(), v1::ERROR_CODE_WORLD_LOST);
}

// How far an answer gets before its client cancels.
enum class Reached { kQueued, kAdmitted, kTokens, kTokensUnread, kEndedUnread };

class CancelTest : public RouterServerTest, public testing::WithParamInterface<Reached> {};

TEST_P(CancelTest, ReachesTheWorldAndHarmsNothing) {
  const Reached reached = GetParam();
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  if (reached != Reached::kQueued) {
    answer->Admit();
    EXPECT_TRUE(asked.Read().has_started());
  }
  if (reached == Reached::kTokens || reached == Reached::kTokensUnread) {
    answer->Tokens(0, Ids("a"));
  }
  if (reached == Reached::kTokens) {
    EXPECT_TRUE(asked.Read().has_delta());
  }
  if (reached == Reached::kEndedUnread) answer->End(v1::FINISH_REASON_LENGTH, 0);
  asked.TryCancel();
  if (reached != Reached::kEndedUnread) {
    EXPECT_TRUE(answer->AwaitCancelled());
  }
  asked.Cancel();
  ExpectServes();
  EXPECT_TRUE(server_->AwaitIdle(absl::Now() + kPatience));
}

INSTANTIATE_TEST_SUITE_P(States,
                         CancelTest,
                         testing::Values(Reached::kQueued,
                                         Reached::kAdmitted,
                                         Reached::kTokens,
                                         Reached::kTokensUnread,
                                         Reached::kEndedUnread));

TEST_F(RouterServerTest, CancelsThatRaceWithTheAnswerLeaveNothingBehind) {
  for (int round = 0; round < 60; ++round) {
    Asked asked(*stub_, Prompt("x"));
    const auto answer = world_.Next();
    std::thread world([&answer, this, round] {
      answer->Admit();
      for (uint32_t i = 0; i < static_cast<uint32_t>(round % 4); ++i) answer->Tokens(i, Ids("a"));
      answer->End(v1::FINISH_REASON_LENGTH, 0);
    });
    for (int reads = 0; reads < round % 3; ++reads) asked.Read();
    asked.Cancel();
    world.join();
  }
  EXPECT_TRUE(server_->AwaitIdle(absl::Now() + kPatience));
  ExpectServes();
}

TEST_F(RouterServerTest, AClientsDeadlineReachesTheWorld) {
  Asked asked(*stub_, Prompt("x"), absl::Milliseconds(300));
  const auto answer = world_.Next();
  answer->Admit();
  EXPECT_TRUE(answer->AwaitCancelled());
  EXPECT_EQ(asked.Finish().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RouterServerTest, AClientThatStallsIsCutOffAndNobodyElse) {
  Restart({.stall_timeout = absl::Milliseconds(200), .tick = absl::Milliseconds(5)});
  v1::GenerateRequest request = Prompt("x");
  request.mutable_options()->set_return_token_ids(true);
  Asked stalled(*stub_, request);
  const auto first = world_.Next();
  Asked other(*stub_, Prompt("x"));
  const auto second = world_.Next();
  second->Admit();
  EXPECT_TRUE(other.Read().has_started());
  std::thread flood([&first] {
    first->Admit();
    const std::vector<int32_t> step(4096, 1);
    v1::TokenEvent event;
    uint32_t index = 0;
    do {  // until the router has cut the call
      event.mutable_tokens()->set_first_index(index);
      event.mutable_tokens()->mutable_ids()->Assign(step.begin(), step.end());
      index += 4096;
    } while (first->Write(event));
  });
  flood.join();
  EXPECT_TRUE(first->AwaitCancelled());
  EXPECT_EQ(stalled.Finish().code(), absl::StatusCode::kCancelled);
  second->Tokens(0, Ids("a"));
  EXPECT_EQ(other.Read().delta().text(), "a");
  second->End(v1::FINISH_REASON_LENGTH, 1);
  EXPECT_TRUE(other.Finish().ok());
}

TEST_F(RouterServerTest, AbortEndsTheAnswerOfThatIdWithAReason) {
  v1::GenerateRequest request = Prompt("x");
  request.mutable_options()->set_request_id("mine");
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  answer->Admit();
  answer->Tokens(0, Ids("ab"));
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_TRUE(asked.Read().has_delta());
  v1::AbortRequest abort;
  abort.add_request_ids("mine");
  abort.add_request_ids("nobody's");
  v1::AbortResponse response;
  ASSERT_TRUE(stub_->Abort(Context().get(), abort, &response).ok());
  EXPECT_THAT(response.aborted(), ElementsAre("mine"));
  EXPECT_TRUE(answer->AwaitCancelled());
  const v1::GenerateEvent end = asked.Read();
  EXPECT_EQ(end.finished().reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_EQ(end.finished().usage().completion_tokens(), Ids("ab").size());
  EXPECT_TRUE(asked.Finish().ok());
  ASSERT_TRUE(Eventually([&] { return server_->AwaitIdle(absl::Now()); }));
  ASSERT_TRUE(stub_->Abort(Context().get(), abort, &response).ok());
  EXPECT_THAT(response.aborted(), ElementsAre());
}

TEST_F(RouterServerTest, DrainRefusesTheNewAndLetsTheOldEnd) {
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  answer->Admit();
  EXPECT_TRUE(asked.Read().has_started());
  RawCall watch(server_->address(), "/grpc.health.v1.Health/Watch", HealthRequest("ready"));
  EXPECT_TRUE(AwaitServing(watch, true));
  server_->BeginDrain();
  EXPECT_TRUE(AwaitServing(watch, false));
  EXPECT_TRUE(CheckHealth(server_->address(), ""));
  Asked refused(*stub_, Prompt("x"));
  const absl::Status status = refused.Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(DetailOf(status).code(), v1::ERROR_CODE_DRAINING);
  EXPECT_TRUE(DetailOf(status).retryable());
  bool ended = false;
  std::thread drain([this, &ended] { ended = server_->Drain(absl::Now() + kPatience); });
  answer->Tokens(0, Ids("a"));
  EXPECT_EQ(asked.Read().delta().text(), "a");
  answer->End(v1::FINISH_REASON_LENGTH, 1);
  EXPECT_TRUE(asked.Read().has_finished());
  EXPECT_TRUE(asked.Finish().ok());
  drain.join();
  EXPECT_TRUE(ended);
}

TEST_F(RouterServerTest, DrainCutsOffWhatDoesNotEndInTime) {
  Asked asked(*stub_, Prompt("x"));
  const auto answer = world_.Next();
  answer->Admit();
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_FALSE(server_->Drain(absl::Now() + absl::Milliseconds(20)));
  EXPECT_FALSE(asked.Finish().ok());
  EXPECT_TRUE(answer->AwaitCancelled());
}

TEST_F(RouterServerTest, TokenizeGivesIdsAndTheirBytes) {
  v1::TokenizeRequest request;
  request.set_text(absl::StrCat("hi <|im_end|>", kLlama));
  v1::TokenizeResponse response;
  ASSERT_TRUE(stub_->Tokenize(Context().get(), request, &response).ok());
  const std::vector<int32_t> ids = Ids(request.text());
  EXPECT_EQ(std::vector<int32_t>(response.tokens().ids().begin(), response.tokens().ids().end()),
            ids);
  std::string joined;
  for (const std::string& piece : response.pieces()) joined += piece;
  EXPECT_EQ(joined, request.text());
  EXPECT_EQ(response.max_context(), 200u);

  v1::DetokenizeRequest back;
  *back.mutable_tokens() = response.tokens();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(Context().get(), back, &text).ok());
  EXPECT_EQ(text.text(), absl::StrCat("hi ", kLlama));
  back.set_skip_special_tokens(false);
  ASSERT_TRUE(stub_->Detokenize(Context().get(), back, &text).ok());
  EXPECT_EQ(text.text(), request.text());
  back.mutable_tokens()->set_ids(1, 5000);
  const absl::Status refused = FromGrpcStatus(stub_->Detokenize(Context().get(), back, &text));
  EXPECT_EQ(DetailOf(refused).field(), "tokens[1]");
}

// The world that would have to prefill all of it hears nothing.
TEST_F(RouterServerTest, AResumedAnswerThatAStopStringHadEndedEndsWithoutAWorld) {
  v1::GenerateRequest request = Prompt("x");
  request.mutable_options()->add_stop_strings("lo w");
  request.mutable_options()->mutable_sampling()->set_seed(1);
  for (const int32_t id : Ids("hello world")) {
    request.mutable_options()->mutable_continue_token_ids()->add_ids(static_cast<uint32_t>(id));
  }
  Asked asked(*stub_, request);
  EXPECT_TRUE(asked.Read().has_started());
  const v1::GenerateEvent end = asked.Read();
  EXPECT_EQ(end.finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(end.finished().match().stop_string(), "lo w");
  EXPECT_TRUE(asked.Finish().ok());
  ExpectServes();
}

// The world is told at once, so that its slot is free for others.
TEST_F(RouterServerTest, AStopStringEndsTheAnswerAndCancelsTheWorldsStream) {
  v1::GenerateRequest request = Prompt("x");
  request.mutable_options()->add_stop_strings("never");
  request.mutable_options()->add_stop_strings("lo w");
  Asked asked(*stub_, request);
  const auto answer = world_.Next();
  answer->Admit();
  answer->Tokens(0, Ids("hello world"));
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_EQ(asked.Read().delta().text(), "hel");
  const v1::GenerateEvent end = asked.Read();
  EXPECT_EQ(end.finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(end.finished().match().stop_string(), "lo w");
  EXPECT_LT(end.finished().usage().completion_tokens(), Ids("hello world").size());
  EXPECT_GT(end.finished().usage().prompt_tokens(), 0u);
  EXPECT_TRUE(asked.Finish().ok());
  EXPECT_TRUE(answer->AwaitCancelled());
  ExpectServes();
}

TEST_F(RouterServerTest, ListsWhatTheWorldServes) {
  v1::ListModelsResponse response;
  ASSERT_TRUE(stub_->ListModels(Context().get(), {}, &response).ok());
  ASSERT_EQ(response.models_size(), 1);
  EXPECT_EQ(response.models(0).id(), "tiny");
  EXPECT_EQ(response.models(0).fingerprint(), "abc");
  EXPECT_EQ(response.models(0).max_context(), 200u);
  EXPECT_EQ(response.models(0).worlds_ready(), 1u);
  EXPECT_THAT(response.models(0).generation_defaults_json(), HasSubstr("\"temperature\": 0.6"));
}

TEST_F(RouterServerTest, ReflectionListsItsServices) {
  const std::string services = ListServices(server_->address());
  EXPECT_THAT(services, HasSubstr("deltaserve.v1.Inference"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
}

}  // namespace
}  // namespace deltaserve
