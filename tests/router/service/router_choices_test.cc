// Several answers of one call (n) through a router's server.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/router/service/router_fixture.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;

v1::GenerateRequest Several(uint32_t n) {
  v1::GenerateRequest request = Prompt("x");
  request.mutable_options()->set_n(n);
  request.mutable_options()->set_request_id("mine");
  request.mutable_options()->mutable_sampling()->set_seed(5);
  return request;
}

class RouterChoicesTest : public RouterServerTest {
 protected:
  // The world's streams of a call, in the order of choices, whatever order they came in.
  std::vector<std::shared_ptr<WorldAnswer>> Answers(size_t n) {
    std::vector<std::shared_ptr<WorldAnswer>> answers(n);
    for (size_t i = 0; i < n; ++i) {
      const auto answer = world_.Next();
      const uint32_t index = answer->request.sample_index();
      EXPECT_LT(index, n);
      EXPECT_EQ(answers.at(index), nullptr) << index;
      answers[index] = answer;
    }
    return answers;
  }

  void ExpectNothingLeft() {
    EXPECT_TRUE(server_->AwaitIdle(absl::Now() + kPatience));
    ExpectServes();
  }
};

TEST_F(RouterChoicesTest, EachIsAStreamOfTheWorldAndTheLastOneEndsTheCall) {
  Asked asked(*stub_, Several(3));
  const auto answers = Answers(3);
  for (const auto& answer : answers) {
    EXPECT_EQ(answer->request.request_id(), "mine");
    EXPECT_EQ(answer->request.sampling().seed(), 5u);
    EXPECT_EQ(answer->request.prompt_ids_size(), static_cast<int>(Ids("x").size()));
  }
  answers[2]->Admit();
  EXPECT_TRUE(asked.Read().has_started());
  answers[0]->Admit();  // the call has started
  const struct {
    uint32_t choice, first_index;
    const char* text;
  } kSteps[] = {{1, 0, "b"}, {0, 0, "a"}, {1, 1, "d"}, {2, 0, "c"}, {0, 1, "e"}};
  for (const auto& step : kSteps) {
    answers[step.choice]->Tokens(step.first_index, Ids(step.text));
    const v1::GenerateEvent event = asked.Read();
    EXPECT_EQ(event.delta().choice(), step.choice);
    EXPECT_EQ(event.delta().first_index(), step.first_index);
    EXPECT_EQ(event.delta().text(), step.text);
  }
  for (const uint32_t choice : {1u, 2u, 0u}) {
    answers[choice]->End(choice == 2 ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH,
                         10 + choice);
    const v1::GenerateEvent end = asked.Read();
    ASSERT_TRUE(end.has_finished());
    EXPECT_EQ(end.finished().choice(), choice);
    EXPECT_EQ(end.finished().reason(),
              choice == 2 ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(end.finished().usage().completion_tokens(), 10 + choice);
  }
  EXPECT_EQ(asked.Read().event_case(), v1::GenerateEvent::EVENT_NOT_SET);
  EXPECT_TRUE(asked.Finish().ok());
  ExpectNothingLeft();
}

// The prompt is the same for all, so its scores are asked for and sent once.
TEST_F(RouterChoicesTest, ThePromptIsScoredForOne) {
  v1::GenerateRequest request = Several(2);
  request.mutable_options()->mutable_output()->set_logprobs(0);
  request.mutable_options()->mutable_output()->set_prompt_logprobs(0);
  Asked asked(*stub_, request);
  const auto answers = Answers(2);
  EXPECT_TRUE(answers[0]->request.output().has_prompt_logprobs());
  EXPECT_FALSE(answers[1]->request.output().has_prompt_logprobs());
  EXPECT_TRUE(answers[1]->request.output().has_logprobs());
  answers[0]->Admit();
  answers[0]->PromptScores(1, {5});
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_TRUE(asked.Read().has_prompt_logprobs());
  asked.Cancel();
  ExpectNothingLeft();
}

struct Fault {
  const char* name;
  v1::ErrorCode code;
  bool retryable;
  std::function<void(WorldAnswer&)> happen;
};

class ChoiceFaultTest : public RouterChoicesTest, public testing::WithParamInterface<Fault> {};

TEST_P(ChoiceFaultTest, OfOneEndsAllAndTheWorldHearsOfIt) {
  Asked asked(*stub_, Several(3));
  const auto answers = Answers(3);
  answers[0]->Admit();
  answers[0]->Tokens(0, Ids("a"));
  EXPECT_TRUE(asked.Read().has_started());
  EXPECT_TRUE(asked.Read().has_delta());
  GetParam().happen(*answers[1]);
  const absl::Status status = asked.Finish();
  EXPECT_EQ(DetailOf(status).code(), GetParam().code) << status;
  EXPECT_EQ(DetailOf(status).retryable(), GetParam().retryable);
  EXPECT_EQ(DetailOf(status).request_id(), "mine");
  EXPECT_TRUE(answers[0]->AwaitCancelled());
  EXPECT_TRUE(answers[2]->AwaitCancelled());
  ExpectNothingLeft();
}

INSTANTIATE_TEST_SUITE_P(
    Faults,
    ChoiceFaultTest,
    testing::Values(Fault{"QueueFull", v1::ERROR_CODE_QUEUE_FULL, true,
                          [](WorldAnswer& answer) {
                            v1::ErrorDetail full;
                            full.set_code(v1::ERROR_CODE_QUEUE_FULL);
                            full.mutable_retry_after()->set_seconds(3);
                            answer.Close(ToGrpcStatus(MakeError(full, "16 requests wait"), ""));
                          }},
                    Fault{"LostToken", v1::ERROR_CODE_INTERNAL, false,
                          [](WorldAnswer& answer) { answer.Tokens(7, {1}); }},
                    Fault{"NoReason", v1::ERROR_CODE_WORLD_LOST, true,
                          [](WorldAnswer& answer) { answer.Close(grpc::Status::OK); }}),
    [](const auto& one) { return one.param.name; });

// One choice's end is its own: the others go on, and their streams are not cancelled.
TEST_F(RouterChoicesTest, AStopStringEndsItsOwnChoice) {
  v1::GenerateRequest request = Several(2);
  request.mutable_options()->add_stop_strings("lo w");
  Asked asked(*stub_, request);
  const auto answers = Answers(2);
  for (const auto& answer : answers) answer->Admit();
  EXPECT_TRUE(asked.Read().has_started());
  answers[1]->Tokens(0, Ids("hello world"));
  EXPECT_EQ(asked.Read().delta().text(), "hel");
  const v1::GenerateEvent end = asked.Read();
  EXPECT_EQ(end.finished().choice(), 1u);
  EXPECT_EQ(end.finished().match().stop_string(), "lo w");
  EXPECT_TRUE(answers[1]->AwaitCancelled());
  answers[0]->Tokens(0, Ids("hel"));
  EXPECT_EQ(asked.Read().delta().choice(), 0u);
  answers[0]->End(v1::FINISH_REASON_LENGTH, 1);
  v1::GenerateEvent last;
  do {  // what the stop string might have begun with comes first
    last = asked.Read();
  } while (last.has_delta());
  EXPECT_EQ(last.finished().choice(), 0u);
  EXPECT_EQ(last.finished().reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_TRUE(asked.Finish().ok());
  ExpectNothingLeft();
}

TEST_F(RouterChoicesTest, AbortEndsThoseThatRunAndNoneTwice) {
  Asked asked(*stub_, Several(3));
  const auto answers = Answers(3);
  answers[1]->Admit();
  EXPECT_TRUE(asked.Read().has_started());
  answers[1]->Tokens(0, Ids("ab"));
  EXPECT_TRUE(asked.Read().has_delta());
  answers[1]->End(v1::FINISH_REASON_LENGTH, 2);
  EXPECT_EQ(asked.Read().finished().choice(), 1u);
  answers[2]->Admit();
  answers[2]->Tokens(0, Ids("ab"));
  EXPECT_EQ(asked.Read().delta().choice(), 2u);
  v1::AbortRequest abort;
  abort.add_request_ids("mine");
  v1::AbortResponse response;
  ASSERT_TRUE(stub_->Abort(Context().get(), abort, &response).ok());
  EXPECT_THAT(response.aborted(), ElementsAre("mine"));
  EXPECT_TRUE(answers[0]->AwaitCancelled());
  EXPECT_TRUE(answers[2]->AwaitCancelled());
  std::vector<uint32_t> tokens(3, 99);
  for (int i = 0; i < 2; ++i) {
    const v1::GenerateEvent end = asked.Read();
    EXPECT_EQ(end.finished().reason(), v1::FINISH_REASON_CANCELLED);
    tokens.at(end.finished().choice()) = end.finished().usage().completion_tokens();
  }
  EXPECT_THAT(tokens, ElementsAre(0, 99, Ids("ab").size()));
  EXPECT_EQ(asked.Read().event_case(), v1::GenerateEvent::EVENT_NOT_SET);
  EXPECT_TRUE(asked.Finish().ok());
  ExpectNothingLeft();
}

TEST_F(RouterChoicesTest, AClientsCancelReachesEveryStreamAtAnyTime) {
  constexpr size_t kChoices = 8;
  for (int round = 0; round < 30; ++round) {
    Asked asked(*stub_, Several(kChoices));
    const auto answers = Answers(kChoices);
    std::thread world([&answers, this, round] {
      for (size_t i = 0; i < kChoices; ++i) {
        answers[i]->Admit();
        if (i % 2 == 0) answers[i]->Tokens(0, Ids("a"));
        if (static_cast<int>(i) < round % 5) answers[i]->End(v1::FINISH_REASON_LENGTH, 1);
      }
    });
    for (int reads = 0; reads < round % 4; ++reads) asked.Read();
    asked.Cancel();
    world.join();
    for (size_t i = 5; i < kChoices; ++i) EXPECT_TRUE(answers[i]->AwaitCancelled()) << i;
  }
  ExpectNothingLeft();
}

// What the world makes of all choices must not pile up before a client that does not read: the
// router would break such a stream off.
TEST_F(RouterChoicesTest, AClientThatReadsLateGetsAllOfIt) {
  constexpr uint32_t kChoices = 4;
  constexpr uint32_t kSteps = 150;
  constexpr uint32_t kTokens = 4096;  // of a step; some 8 KiB with their text
  Restart({.stall_timeout = kPatience,
           .max_pending_bytes = size_t{16} * kTokens,  // a few steps; all are 150 a choice
           .tick = absl::Milliseconds(1)});
  v1::GenerateRequest request = Several(kChoices);
  request.mutable_options()->set_return_token_ids(true);
  Asked asked(*stub_, request);
  const auto answers = Answers(kChoices);
  std::atomic<uint32_t> written{0};
  std::vector<std::thread> floods;
  floods.reserve(kChoices);
  for (const auto& answer : answers) {
    floods.emplace_back([&answer, &written] {
      answer->Admit();
      const std::vector<int32_t> step(kTokens, 1);
      for (uint32_t i = 0; i < kSteps; ++i) {
        answer->Tokens(i * kTokens, step);
        ++written;
      }
      answer->End(v1::FINISH_REASON_LENGTH, kSteps * kTokens);
    });
  }
  // Until the world can write no more: nothing new in many of the server's ticks.
  uint32_t before = 0;
  do {
    before = written;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  } while (written == 0 || written != before);
  EXPECT_LT(written, kChoices * kSteps);
  std::vector<uint32_t> tokens(kChoices);
  uint32_t num_finished = 0;
  for (v1::GenerateEvent event = asked.Read(); event.event_case() != 0; event = asked.Read()) {
    if (event.has_delta()) {
      uint32_t& count = tokens.at(event.delta().choice());
      EXPECT_EQ(event.delta().first_index(), count);
      count += static_cast<uint32_t>(event.delta().tokens().ids_size());
    }
    num_finished += event.has_finished() ? 1 : 0;
  }
  EXPECT_THAT(tokens, testing::Each(kSteps * kTokens));
  EXPECT_EQ(num_finished, kChoices);
  EXPECT_TRUE(asked.Finish().ok());
  for (std::thread& flood : floods) flood.join();
  ExpectNothingLeft();
}

}  // namespace
}  // namespace deltaserve
