// Questions, replies and scores of deltaserve-eval.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tools/eval/question.h"
#include "tools/eval/reply.h"
#include "tools/eval/score.h"

namespace deltaserve {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kSum[] =
    R"({"id": "add-1", "task": "add", "messages": [{"role": "user", "content": "14 + 59 = ?"}], "answer": "73"})";

Question Sum() { return *ParseQuestion(kSum); }

Reply Answered(const std::string& content) {
  Reply reply;
  reply.id = "add-1";
  reply.content = content;
  reply.end = ReplyEnd::kStop;
  reply.prompt = {1, 2};
  reply.tokens = {7, 3};
  return reply;
}

TEST(QuestionTest, BecomesARequestOfChat) {
  const Question sum = Sum();
  EXPECT_EQ(sum.id, "add-1");
  EXPECT_EQ(sum.task, "add");
  EXPECT_EQ(sum.content, "73");
  ASSERT_EQ(sum.request.messages_size(), 1);
  EXPECT_EQ(sum.request.messages(0).role(), "user");
  EXPECT_EQ(sum.request.messages(0).content(0).text(), "14 + 59 = ?");
  EXPECT_EQ(json::parse(sum.request.template_args_json()), (json{{"enable_thinking", false}}));

  const auto told = ParseQuestion(
      R"({"id": "c", "task": "calculator", "answer": "6", "thinking": true,
          "tools": [{"type": "function", "function": {"name": "calculator"}}],
          "tool_calls": [{"name": "calculator", "arguments": {"b": 3, "a": 2}}],
          "messages": [{"role": "user", "content": "2 x 3"},
                       {"role": "assistant", "content": "", "reasoning_content": "hm",
                        "tool_calls": [{"type": "function",
                                        "function": {"name": "calculator", "arguments": {"b": 3, "a": 2}}}]},
                       {"role": "tool", "content": "6"}]})");
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(json::parse(told->request.template_args_json()), (json{{"enable_thinking", true}}));
  EXPECT_EQ(told->request.tools_json_size(), 1);
  const v1::Message& call = told->request.messages(1);
  EXPECT_EQ(call.content_size(), 0);
  EXPECT_EQ(call.reasoning(), "hm");
  EXPECT_EQ(call.tool_calls(0).name(), "calculator");
  EXPECT_EQ(call.tool_calls(0).arguments_json(), R"({"b":3,"a":2})");  // the order is kept
  EXPECT_EQ(told->request.messages(2).content(0).text(), "6");
  ASSERT_EQ(told->calls.size(), 1U);
  EXPECT_EQ(told->calls[0].arguments["a"], 2);
}

TEST(QuestionTest, ABadLineIsRefusedByField) {
  const auto field_of = [](const std::string& line) {
    return DetailOf(ParseQuestion(line).status()).field();
  };
  EXPECT_EQ(field_of("[]"), "line");
  EXPECT_EQ(field_of(R"({"task": "add", "answer": "", "messages": []})"), "id");
  EXPECT_EQ(field_of(R"({"id": "a", "task": 1, "answer": "", "messages": []})"), "task");
  EXPECT_EQ(field_of(R"({"id": "a", "task": "b", "messages": []})"), "answer");
  EXPECT_EQ(field_of(R"({"id": "a", "task": "b", "answer": "", "messages": {}})"), "messages");
  EXPECT_EQ(field_of(R"({"id": "a", "task": "b", "answer": "", "messages": [1]})"), "messages");
  EXPECT_EQ(field_of(R"({"id": "a", "task": "b", "answer": "", "messages": [{"role": "user"}]})"),
            "content");
  EXPECT_EQ(field_of(R"({"id": "a", "task": "b", "answer": "", "thinking": "on"})"), "thinking");
  EXPECT_EQ(field_of(R"({"id": "a", "task": "b", "answer": "", "tool_calls": [{"name": "f"}]})"),
            "tool_calls");
}

TEST(QuestionTest, TheCommittedOnesAreReadByTask) {
  const std::string path = std::string(DELTASERVE_SOURCE_DIR) + "/tools/eval/questions.jsonl";
  const auto all = ReadQuestions(path, {});
  ASSERT_TRUE(all.ok()) << all.status();
  const auto some = ReadQuestions(path, {"add", "think"});
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->size(), 120U);
  EXPECT_GT(all->size(), some->size());
  EXPECT_THAT(ReadQuestions(path, {"add", "divide"}).status().message(),
              HasSubstr("--task is divide"));
  EXPECT_THAT(ReadQuestions("/nowhere", {}).status().message(), HasSubstr("/nowhere"));
}

TEST(ScoreTest, OnlyTheExactAnswerIsRight) {
  EXPECT_TRUE(IsRight(Sum(), Answered("73")));
  for (const char* content : {"7", "73 ", " 73", "73.", "<think>73", ""}) {
    EXPECT_FALSE(IsRight(Sum(), Answered(content))) << content;
  }
  Reply cut = Answered("73");
  cut.end = ReplyEnd::kLength;
  EXPECT_FALSE(IsRight(Sum(), cut));
}

TEST(ScoreTest, ReasoningIsWhereThinkingIsOn) {
  Question question = Sum();
  Reply reply = Answered("73");
  reply.reasoning = "4 + 9";
  EXPECT_FALSE(IsRight(question, reply));
  question.thinking = true;
  EXPECT_TRUE(IsRight(question, reply));
  reply.reasoning.clear();  // it stayed in the content, or there was none
  EXPECT_FALSE(IsRight(question, reply));
}

TEST(ScoreTest, CallsAreRightByNameAndArguments) {
  Question question = Sum();
  question.content.clear();
  question.calls = {{"calculator", {{"a", 2}, {"b", 3}}}};
  Reply reply = Answered("");
  reply.calls = {{"calculator", {{"b", 3}, {"a", 2}}}};  // another order
  EXPECT_TRUE(IsRight(question, reply));
  reply.calls = {{"calculator", {{"a", "2"}, {"b", 3}}}};  // text is no number
  EXPECT_FALSE(IsRight(question, reply));
  reply.calls = {{"calculator", nullptr}};
  EXPECT_FALSE(IsRight(question, reply));
  reply.calls = {{"add", {{"a", 2}, {"b", 3}}}};
  EXPECT_FALSE(IsRight(question, reply));
  reply.calls = {question.calls[0], question.calls[0]};
  EXPECT_FALSE(IsRight(question, reply));
  reply.calls.clear();
  EXPECT_FALSE(IsRight(question, reply));
  EXPECT_FALSE(IsRight(Sum(), [&] {
    Reply called = Answered("73");
    called.calls = question.calls;
    return called;
  }()));
}

TEST(ScoreTest, SpecialTokensInContentOrReasoningLeak) {
  for (const char* text : {"<|im_end|>", "73<|endoftext|>", "</think>\n73", "<tool_call>\n"}) {
    EXPECT_TRUE(LeaksSpecialToken(Answered(text))) << text;
    Reply thought = Answered("73");
    thought.reasoning = text;
    EXPECT_TRUE(LeaksSpecialToken(thought)) << text;
  }
  EXPECT_FALSE(LeaksSpecialToken(Answered("a < b | c > d, <b>, think")));
}

TEST(ScoreTest, CountsByTask) {
  Question other = Sum();
  other.task = "subtract";
  Reply cut = Answered("<|im_end|>");
  cut.end = ReplyEnd::kLength;
  cut.tokens = {1, 2, 3, 4, 5, 6};
  Reply failed;
  const Score score =
      ScoreReplies({Sum(), other, Sum(), Sum()}, {Answered("73"), Answered("73"), cut, failed});
  ASSERT_EQ(score.tasks.size(), 2U);
  EXPECT_EQ(score.tasks[0].task, "add");
  EXPECT_EQ(score.tasks[0].questions, 3);
  EXPECT_EQ(score.tasks[0].right, 1);
  EXPECT_EQ(score.tasks[0].median_tokens, 2U);
  EXPECT_EQ(score.tasks[1].right, 1);
  EXPECT_EQ(score.all.questions, 4);
  EXPECT_EQ(score.all.right, 2);
  EXPECT_EQ(score.by_length, 1);
  EXPECT_EQ(score.leaked, 1);
  EXPECT_EQ(score.failed, 1);
  EXPECT_THAT(ScoreTable(score), HasSubstr("50.0"));
  const json summary = ScoreJson(score);
  EXPECT_EQ(summary["tasks"][1]["percent"], 100.0);
  EXPECT_EQ(summary["all"]["right"], 2);
  EXPECT_EQ(summary["ended_by_length"], 1);
}

TEST(AgreementTest, IsTheSameTokensAfterTheSamePrompt) {
  const auto named = [](const char* id) {
    Reply reply = Answered("73");
    reply.id = id;
    return reply;
  };
  Reply tokens = named("tokens");
  tokens.tokens = {7};
  Reply prompt = named("prompt");
  prompt.prompt = {1};
  Reply end = named("end");
  end.end = ReplyEnd::kLength;
  const Agreement agreement =
      Compare({named("same"), named("tokens"), named("prompt"), named("end"), named("alone")},
              {named("end-of-nothing"), end, prompt, tokens, named("same")});
  EXPECT_EQ(agreement.compared, 4);
  EXPECT_EQ(agreement.same, 1);
  EXPECT_THAT(agreement.different, ElementsAre("tokens", "end"));
  EXPECT_THAT(agreement.other_prompts, ElementsAre("prompt"));
  EXPECT_THAT(agreement.missing, ElementsAre("alone"));
  EXPECT_THAT(AgreementText(agreement), HasSubstr("1 of 4 (25.00 %)"));
  EXPECT_EQ(AgreementJson(agreement)["percent"], 25.0);
}

TEST(ReplyTest, GoesThroughItsLine) {
  Reply reply = Answered("7\n3");
  reply.calls = {{"calculator", {{"a", 2}}}};
  const auto back = ParseReply(ReplyLine(reply));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_THAT(Compare({reply}, {*back}).different, IsEmpty());
  EXPECT_EQ(Compare({reply}, {*back}).same, 1);
  EXPECT_EQ(json::parse(ReplyLine(reply))["tool_calls"][0]["arguments"]["a"], 2);
}

TEST(ReplyTest, ABadLineIsRefusedByField) {
  const auto field_of = [](const std::string& line) {
    return DetailOf(ParseReply(line).status()).field();
  };
  EXPECT_EQ(field_of(R"({"end": "stop", "prompt": [], "tokens": []})"), "id");
  EXPECT_EQ(field_of(R"({"id": "a", "end": "soon", "prompt": [], "tokens": []})"), "end");
  EXPECT_EQ(field_of(R"({"id": "a", "end": "stop", "prompt": 1, "tokens": []})"), "prompt");
  EXPECT_EQ(field_of(R"({"id": "a", "end": "stop", "prompt": [], "tokens": [-1]})"), "tokens");
}

}  // namespace
}  // namespace deltaserve
