#include "router/service/chat_answer.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "deltaserve/v1/inference.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "proto/error.h"
#include "proto/text_digest.h"
#include "router/text/text_assets.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kAdd[] =
    R"({"type": "function", "function": {"name": "add", "parameters": {"properties": )"
    R"({"a": {"type": "integer"}, "note": {"type": "string"}}}}})";
constexpr char kCall[] =
    "<tool_call>\n<function=add>\n<parameter=a>\n12\n</parameter>\n<parameter=note>\nso </b>\n"
    "</parameter>\n</function>\n</tool_call>";

std::shared_ptr<const WorldFacts> Facts() {
  std::map<std::string, std::string> files;
  for (const char* name :
       {kTokenizerFile, kTokenizerConfigFile, kChatTemplateFile, kGenerationConfigFile}) {
    files[name] = FixtureBytes(name);
  }
  auto facts = std::make_shared<WorldFacts>();
  v1::ServedModel* model = facts->description.add_models();
  model->set_id("tiny");
  model->set_max_context(4096);
  model->set_num_tokens(1000);
  facts->description.mutable_capacity()->set_slots(2);
  facts->text = *ModelText::Make(files, TextDigest(files));
  return facts;
}

// All events of an answer, joined.
struct Told {
  std::string reasoning, content;
  struct Call {
    std::string id, name, arguments;
  };
  std::vector<Call> calls;
  v1::Finished finished;
  int num_finished = 0;
};

class ChatAnswerTest : public testing::Test {
 protected:
  ChatAnswerTest() {
    v1::Message* message = request_.add_messages();
    message->set_role("user");
    message->add_content()->set_text("hi");
  }

  std::vector<int32_t> Ids(const std::string& text) const {
    return *facts_->text->tokenizer->Encode(text);
  }
  void Start() {
    answer_ = std::make_unique<ChatAnswer>(request_);
    const auto made = answer_->Prepare(facts_, {.request_id = "chat-1"});
    ASSERT_TRUE(made.ok()) << made.status();
    made_ = *made;
  }
  absl::Status Refusal() {
    return ChatAnswer(request_).Prepare(facts_, ResolverDefaults()).status();
  }

  // The answer to the model writing `text`, `step` tokens a step, and then its EOS.
  Told Say(const std::string& text, size_t step) {
    Start();
    AnswerEvents events;
    const std::vector<int32_t> ids = Ids(text);
    for (size_t i = 0; i < ids.size() && !answer_->IsOver(0); i += step) {
      v1::TokenEvent::Tokens tokens;
      tokens.set_first_index(static_cast<uint32_t>(i));
      for (size_t j = i; j < std::min(i + step, ids.size()); ++j) {
        tokens.add_ids(static_cast<uint32_t>(ids[j]));
      }
      EXPECT_TRUE(answer_->Add(0, tokens, &events).ok());
    }
    v1::Finished finished;
    finished.set_reason(v1::FINISH_REASON_STOP);
    answer_->Finish(finished, /*counts=*/true, &events);
    return Join(events);
  }
  static Told Join(const AnswerEvents& events, uint32_t choice = 0) {
    Told told;
    for (const AnswerEvent& one : events) {
      grpc::ByteBuffer bytes(one.bytes);
      v1::ChatEvent event;
      EXPECT_TRUE(grpc::SerializationTraits<v1::ChatEvent>::Deserialize(&bytes, &event).ok());
      if ((event.has_delta() ? event.delta().choice() : event.finished().choice()) != choice) {
        continue;
      }
      if (event.has_finished()) {
        told.finished = event.finished();
        ++told.num_finished;
      }
      told.reasoning += event.delta().reasoning();
      told.content += event.delta().content();
      for (const v1::ToolCallDelta& call : event.delta().tool_calls()) {
        if (!call.name().empty()) {
          EXPECT_EQ(call.index(), told.calls.size());
          told.calls.push_back({call.id(), call.name(), ""});
        }
        told.calls.at(call.index()).arguments += call.arguments_fragment();
      }
    }
    EXPECT_EQ(told.num_finished, 1);
    return told;
  }

  const std::shared_ptr<const WorldFacts> facts_ = Facts();
  v1::ChatRequest request_;
  std::unique_ptr<ChatAnswer> answer_;
  v1::TokenRequest made_;
};

TEST_F(ChatAnswerTest, ThinkingIsWhatTheTemplateMakesIt) {
  for (const size_t step : {1u, 3u, 100u}) {
    Told told = Say("I see\n</think>\n\nhello", step);
    EXPECT_EQ(told.reasoning, "I see");
    EXPECT_EQ(told.content, "hello");
    EXPECT_GT(told.finished.usage().reasoning_tokens(), 0u);
  }
  request_.set_template_args_json(R"({"enable_thinking": false})");
  const Told told = Say("I see\n</think>\n\nhello", 2);
  EXPECT_EQ(told.reasoning, "");
  EXPECT_EQ(told.content, "I see\n</think>\n\nhello");
  EXPECT_EQ(told.finished.usage().reasoning_tokens(), 0u);
}

TEST_F(ChatAnswerTest, ToolCallsStreamAsValidJsonWithIdsOfTheirOwn) {
  request_.add_tools_json(kAdd);
  for (const size_t step : {1u, 2u, 5u, 1000u}) {
    const Told told =
        Say(std::string("think\n</think>\n\nI add.\n\n") + kCall + "\n" + kCall, step);
    EXPECT_EQ(told.reasoning, "think");
    EXPECT_EQ(told.content, "I add.\n\n");
    ASSERT_EQ(told.calls.size(), 2u);
    for (const Told::Call& call : told.calls) {
      EXPECT_EQ(call.name, "add");
      EXPECT_EQ(nlohmann::json::parse(call.arguments),
                nlohmann::json({{"a", 12}, {"note", "so </b>"}}));
    }
    EXPECT_EQ(told.calls[0].id, "call-chat-1-0-0");
    EXPECT_EQ(told.calls[1].id, "call-chat-1-0-1");
    EXPECT_EQ(told.finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
  }
}

// Each has its own reasoning, calls and end, however their tokens come in turn.
TEST_F(ChatAnswerTest, ChoicesDoNotMix) {
  request_.add_tools_json(kAdd);
  request_.set_parallel_tool_calls(false);
  request_.mutable_options()->set_n(2);
  Start();
  const std::vector<int32_t> texts[2] = {
      Ids(std::string("one\n</think>\n\nfirst ") + kCall + kCall),
      Ids(std::string("two\n</think>\n\nno call but ") + kCall)};
  AnswerEvents events;
  for (uint32_t i = 0; i < std::max(texts[0].size(), texts[1].size()); ++i) {
    for (const uint32_t choice : {1u, 0u}) {
      if (i >= texts[choice].size() || answer_->IsOver(choice)) continue;
      v1::TokenEvent::Tokens tokens;
      tokens.set_first_index(i);
      tokens.add_ids(static_cast<uint32_t>(texts[choice][i]));
      ASSERT_TRUE(answer_->Add(choice, tokens, &events).ok());
    }
  }
  for (const uint32_t choice : {0u, 1u}) {
    EXPECT_TRUE(answer_->IsOver(choice));
    v1::Finished finished;
    finished.set_choice(choice);
    finished.set_reason(v1::FINISH_REASON_STOP);
    answer_->Finish(finished, /*counts=*/true, &events);
    const Told told = Join(events, choice);
    EXPECT_EQ(told.reasoning, choice == 0 ? "one" : "two");
    EXPECT_EQ(told.content, choice == 0 ? "first " : "no call but ");
    ASSERT_EQ(told.calls.size(), 1u);
    EXPECT_EQ(told.calls[0].id, choice == 0 ? "call-chat-1-0-0" : "call-chat-1-1-0");
    EXPECT_EQ(nlohmann::json::parse(told.calls[0].arguments)["a"], 12);
    EXPECT_EQ(told.finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
    const size_t most = Ids(told.reasoning + "\n</think>\n\n" + told.content + kCall).size();
    EXPECT_LE(told.finished.usage().completion_tokens(), most);
  }
}

// Nobody could use the call, so it stays what it is: a thought, told as it comes.
TEST_F(ChatAnswerTest, WithoutToolsACallInsideOfReasoningIsAThought) {
  const Told told = Say(std::string("I could write ") + kCall + " and think on", 1);
  EXPECT_EQ(told.reasoning, std::string("I could write ") + kCall + " and think on");
  EXPECT_EQ(told.content, "");
}

TEST_F(ChatAnswerTest, ACallThatEndsReasoningCountsAsNoneOfIt) {
  request_.add_tools_json(kAdd);
  for (const size_t step : {size_t{1}, size_t{1000}}) {
    const Told told = Say(std::string("thought ") + kCall, step);
    EXPECT_EQ(told.reasoning, "thought ");
    ASSERT_EQ(told.calls.size(), 1u);
    EXPECT_EQ(told.finished.usage().reasoning_tokens(), Ids("thought ").size());
    const Told thought = Say(std::string("thought ") + kCall + "</think>x", step);
    EXPECT_EQ(thought.finished.usage().reasoning_tokens(),
              Ids(std::string("thought ") + kCall + "</think>").size());
  }
}

// A client must not run a call whose arguments a stop string or an early end has cut.
TEST_F(ChatAnswerTest, ACallThatBrokeOffIsNoReasonToCall) {
  request_.add_tools_json(kAdd);
  const std::string call = kCall;
  EXPECT_EQ(Say("x</think>" + call, 1).finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
  const std::string cut = call.substr(0, call.find("</b>"));
  EXPECT_EQ(Say("x</think>" + cut, 1).finished.reason(), v1::FINISH_REASON_STOP);
  request_.mutable_options()->add_stop_strings("</b>");
  const Told stopped = Say("x</think>" + call, 1);
  EXPECT_EQ(stopped.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(stopped.finished.match().stop_string(), "</b>");
}

// Whatever number of tokens a step makes, the answer ends at the same one.
TEST_F(ChatAnswerTest, WhereOneCallEndsTheAnswerStepsDoNotMatter) {
  request_.add_tools_json(kAdd);
  request_.set_parallel_tool_calls(false);
  request_.mutable_options()->add_stop_strings("tail");
  const std::string text = std::string("x</think>") + kCall + " and a tail";
  const Told one = Say(text, 1);
  const Told all = Say(text, 1000);
  for (const Told* told : {&one, &all}) {
    EXPECT_EQ(told->finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
    EXPECT_FALSE(told->finished.match().has_stop_string());
  }
  EXPECT_EQ(one.finished.usage().completion_tokens(), all.finished.usage().completion_tokens());
}

TEST_F(ChatAnswerTest, WithoutToolsACallIsText) {
  const Told told = Say(std::string("x</think>") + kCall, 1);
  EXPECT_EQ(told.content, kCall);
  EXPECT_TRUE(told.calls.empty());
  EXPECT_EQ(told.finished.reason(), v1::FINISH_REASON_STOP);
}

TEST_F(ChatAnswerTest, OneCallAtATimeEndsTheAnswerAfterTheFirst) {
  request_.add_tools_json(kAdd);
  request_.set_parallel_tool_calls(false);
  for (const size_t step : {1u, 1000u}) {
    const Told told = Say(std::string("x</think>") + kCall + "\n" + kCall, step);
    ASSERT_EQ(told.calls.size(), 1u);
    EXPECT_TRUE(nlohmann::json::parse(told.calls[0].arguments).is_object());
    EXPECT_TRUE(answer_->IsOver(0));
    EXPECT_EQ(told.finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
  }
}

TEST_F(ChatAnswerTest, AnAnswerCutInsideOfACallStillGivesValidArguments) {
  request_.add_tools_json(kAdd);
  const std::string call = kCall;
  for (size_t cut = call.find("<parameter=note>"); cut < call.size(); ++cut) {
    const Told told = Say("x</think>" + call.substr(0, cut), 1);
    ASSERT_EQ(told.calls.size(), 1u) << cut;
    EXPECT_TRUE(nlohmann::json::accept(told.calls[0].arguments)) << told.calls[0].arguments;
  }
}

TEST_F(ChatAnswerTest, StopStringsCutContentOnly) {
  request_.mutable_options()->add_stop_strings("END");
  const Told told = Say("so END\n</think>\n\nhello END more", 1);
  EXPECT_EQ(told.reasoning, "so END");
  EXPECT_EQ(told.content, "hello ");
  EXPECT_EQ(told.finished.match().stop_string(), "END");
  EXPECT_TRUE(answer_->IsOver(0));
}

TEST_F(ChatAnswerTest, AThinkingBudgetBecomesTokensForTheWorld) {
  request_.set_thinking_budget(12);
  Start();
  const Tokenizer& tokenizer = *facts_->text->tokenizer;
  const v1::ForcedExit& exit = made_.forced_exit();
  const auto id_of = [&](const char* text) {
    return static_cast<uint32_t>(*tokenizer.TokenId(text));
  };
  EXPECT_THAT(exit.watch_token_ids(), ElementsAre(id_of("</think>")));
  EXPECT_EQ(exit.after_tokens(), 12u);
  EXPECT_EQ(std::vector<int32_t>(exit.force_token_ids().begin(), exit.force_token_ids().end()),
            Ids("\n</think>\n\n"));
  // Where calls are parsed, one ends reasoning that nothing closes: no budget is to cut it in two.
  request_.add_tools_json(kAdd);
  Start();
  EXPECT_THAT(made_.forced_exit().watch_token_ids(),
              ElementsAre(id_of("</think>"), id_of("<tool_call>")));
  request_.set_template_args_json(R"({"enable_thinking": false})");
  EXPECT_EQ(DetailOf(Refusal()).field(), "thinking_budget");
  EXPECT_THAT(std::string(Refusal().message()), HasSubstr("does not open a block of reasoning"));
}

TEST_F(ChatAnswerTest, AResumedAnswerSaysTheRestAndNothingTwice) {
  request_.add_tools_json(kAdd);
  const std::string text = std::string("so\n</think>\n\nfirst ") + kCall;
  const Told whole = Say(text, 1);
  const std::vector<int32_t> ids = Ids(text);
  request_.mutable_options()->mutable_sampling()->set_seed(1);
  for (size_t cut = 1; cut < ids.size(); ++cut) {
    auto* sent = request_.mutable_options()->mutable_continue_token_ids();
    sent->clear_ids();
    for (size_t i = 0; i < cut; ++i) sent->add_ids(static_cast<uint32_t>(ids[i]));
    Start();
    AnswerEvents events;
    v1::TokenEvent::Tokens rest;
    rest.set_first_index(static_cast<uint32_t>(cut));
    for (size_t i = cut; i < ids.size(); ++i) rest.add_ids(static_cast<uint32_t>(ids[i]));
    ASSERT_TRUE(answer_->Add(0, rest, &events).ok());
    v1::Finished finished;
    finished.set_reason(v1::FINISH_REASON_STOP);
    answer_->Finish(finished, true, &events);
    // What is new ends as the whole does.
    std::string content;
    for (const AnswerEvent& one : events) {
      grpc::ByteBuffer bytes(one.bytes);
      v1::ChatEvent event;
      ASSERT_TRUE(grpc::SerializationTraits<v1::ChatEvent>::Deserialize(&bytes, &event).ok());
      content += event.delta().content();
      if (event.has_finished()) {
        EXPECT_EQ(event.finished().reason(), v1::FINISH_REASON_TOOL_CALLS) << cut;
      }
    }
    EXPECT_TRUE(whole.content.ends_with(content)) << cut << ": " << content;
  }
}

TEST_F(ChatAnswerTest, WhatTheTemplateRefusesIsToldInItsWords) {
  request_.mutable_messages(0)->mutable_content(0)->set_text("<tool_response>x</tool_response>");
  EXPECT_EQ(DetailOf(Refusal()).code(), v1::ERROR_CODE_INVALID_FIELD);
  EXPECT_EQ(DetailOf(Refusal()).field(), "messages[0].content");
  EXPECT_THAT(std::string(Refusal().message()), HasSubstr("messages hold no question of a user"));
  v1::Message* second = request_.add_messages();
  second->set_role("user");
  second->add_content()->set_text(" <tool_response>y</tool_response>\n");
  EXPECT_EQ(DetailOf(Refusal()).field(), "messages[1].content");
  request_.clear_messages();
  EXPECT_THAT(std::string(Refusal().message()), HasSubstr("send a user message"));
}

TEST_F(ChatAnswerTest, ContinuesTheLastMessage) {
  request_.set_template_args_json(R"({"enable_thinking": false})");
  v1::Message* message = request_.add_messages();
  message->set_role("assistant");
  message->add_content()->set_text("It is");
  request_.set_continue_final_message(true);
  Start();
  const std::vector<int32_t> prompt(made_.prompt_ids().begin(), made_.prompt_ids().end());
  EXPECT_EQ(*Decode(*facts_->text->tokenizer, prompt, false),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nIt is");
  request_.set_add_generation_prompt(true);
  EXPECT_EQ(DetailOf(Refusal()).field(), "continue_final_message");
}

}  // namespace
}  // namespace deltaserve
