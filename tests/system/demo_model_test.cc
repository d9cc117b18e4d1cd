// deploy/demo-model behind a router: the answers of a trained model are right.

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/system/served_model.h"
#include "tools/eval/asker.h"
#include "tools/eval/score.h"

namespace deltaserve::test {
namespace {

constexpr int kPerTask = 5;     // questions
constexpr int kLeastRight = 4;  // of them: the model is small, and no answer of it is promised

// The first held-out questions of every task.
std::vector<Question> FirstQuestions() {
  const auto all = ReadQuestions(SourcePath("tools/eval/questions.jsonl"), {});
  EXPECT_TRUE(all.ok()) << all.status();
  std::vector<Question> first;
  std::map<std::string, int> taken;
  for (const Question& question : *all) {
    if (taken[question.task]++ < kPerTask) first.push_back(question);
  }
  return first;
}

struct Case {
  const char* name;
  int ranks;
  std::vector<std::string> flags;
};

class DemoModelQuestionsTest : public ::testing::TestWithParam<Case> {};

TEST_P(DemoModelQuestionsTest, AreAnsweredRightly) {
  ServedModel served(GetParam().ranks, GetParam().flags, SourcePath("deploy/demo-model"));
  const std::vector<Question> questions = FirstQuestions();
  const std::vector<Reply> replies = AskAll(served.inference(), questions, {}, [](size_t) {});
  const Score score = ScoreReplies(questions, replies);
  EXPECT_EQ(score.tasks.size(), 13U);
  for (const TaskScore& task : score.tasks) {
    EXPECT_EQ(task.questions, kPerTask) << task.task;
    EXPECT_GE(task.right, kLeastRight) << task.task << "\n" << ScoreTable(score);
  }
  EXPECT_EQ(score.failed, 0);
  EXPECT_EQ(score.by_length, 0);
  EXPECT_EQ(score.leaked, 0);
}

INSTANTIATE_TEST_SUITE_P(Worlds,
                         DemoModelQuestionsTest,
                         ::testing::Values(Case{"2_ranks", 2, {}},
                                           Case{"1_rank_int8", 1, {"--quantize", "int8"}},
                                           Case{"2_ranks_int8", 2, {"--quantize", "int8"}}),
                         [](const auto& c) { return c.param.name; });

// A continuation is promised between equal weights alone.
TEST(DemoModelTest, QuantizedWeightsHaveAFingerprintOfTheirOwn) {
  ServedModel served(1, {"--quantize", "int8"}, SourcePath("deploy/demo-model"));
  grpc::ClientContext context;
  v1::WorldDescription description;
  ASSERT_TRUE(served.world_stub().Describe(&context, {}, &description).ok());
  const std::string& fingerprint = description.models(0).weights_fingerprint();
  EXPECT_EQ(fingerprint.size(), 64U + 5U);
  EXPECT_EQ(fingerprint.substr(64), "+int8");
}

struct Conversation {
  std::string reasoning, content;
  v1::ToolCall call;
  v1::Finished finished;
};

Conversation Chat(v1::Inference::Stub& stub, const v1::ChatRequest& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  const auto stream = stub.Chat(&context, request);
  Conversation all;
  v1::ChatEvent event;
  while (stream->Read(&event)) {
    if (event.has_finished()) all.finished = event.finished();
    all.reasoning += event.delta().reasoning();
    all.content += event.delta().content();
    for (const v1::ToolCallDelta& part : event.delta().tool_calls()) {
      EXPECT_EQ(part.index(), 0U);
      all.call.mutable_name()->append(part.name());
      all.call.mutable_arguments_json()->append(part.arguments_fragment());
    }
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return all;
}

// With no option set: what the model's generation_config says is greedy, with two EOS ids.
TEST(DemoModelTest, ThinksCallsAToolAndEndsByItself) {
  ServedModel served(2, {}, SourcePath("deploy/demo-model"));
  v1::ChatRequest think;
  v1::Message* question = think.add_messages();
  question->set_role("user");
  question->add_content()->set_text("What is 881 + 513?");
  think.set_template_args_json(R"({"enable_thinking": true})");
  const Conversation thought = Chat(served.inference(), think);
  EXPECT_EQ(thought.reasoning, "1 + 3 + 0 = 4\n8 + 1 + 0 = 9\n8 + 5 + 0 = 13");
  EXPECT_EQ(thought.content, "1394");
  EXPECT_EQ(thought.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_TRUE(thought.finished.match().has_eos_token_id());
  EXPECT_GT(thought.finished.usage().reasoning_tokens(), 20U);

  const auto calls = ReadQuestions(SourcePath("tools/eval/questions.jsonl"), {"calculator_call"});
  ASSERT_TRUE(calls.ok()) << calls.status();
  const Conversation called = Chat(served.inference(), calls->front().request);
  EXPECT_EQ(called.content, "");
  EXPECT_EQ(called.call.name(), "calculator");
  EXPECT_EQ(called.call.arguments_json(), R"({"a": 905, "b": 949})");
  EXPECT_EQ(called.finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
}

}  // namespace
}  // namespace deltaserve::test
