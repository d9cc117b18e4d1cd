#include "router/service/chat_request.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;
using R = v1::ChatRequest;

constexpr char kTool[] =
    R"({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}})";

v1::Message* Add(R* request, const std::string& role, const std::string& text) {
  v1::Message* message = request->add_messages();
  message->set_role(role);
  message->add_content()->set_text(text);
  return message;
}

R Good() {
  R request;
  Add(&request, "system", "be brief");
  Add(&request, "user", "hi");
  return request;
}

TEST(ChatRequestTest, MessagesTakeTheFormThatTemplatesKnow) {
  R request = Good();
  v1::Message* answer = Add(&request, "assistant", "");
  answer->set_reasoning("hm");
  v1::ToolCall* call = answer->add_tool_calls();
  call->set_id("c1");
  call->set_name("add");
  call->set_arguments_json(R"({"b": 2, "a": 1})");
  answer->add_tool_calls()->set_name("now");
  v1::Message* result = Add(&request, "tool", "3");
  result->set_tool_call_id("c1");
  request.mutable_messages(1)->add_content()->set_text(" there");
  request.add_tools_json(kTool);
  request.set_template_args_json(R"({"enable_thinking": false})");
  const auto read = ReadChatRequest(request);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->conversation.messages.dump(),
            R"([{"role":"system","content":"be brief"},{"role":"user","content":"hi there"},)"
            R"({"role":"assistant","content":"","reasoning_content":"hm","tool_calls":[)"
            R"({"id":"c1","type":"function","function":{"name":"add","arguments":{"b":2,"a":1}}},)"
            R"({"type":"function","function":{"name":"now","arguments":{}}}]},)"
            R"({"role":"tool","content":"3","tool_call_id":"c1"}])");
  EXPECT_EQ(read->conversation.tools.size(), 1u);
  EXPECT_TRUE(read->parses_tool_calls);
  EXPECT_TRUE(read->parallel_tool_calls);
  EXPECT_TRUE(read->conversation.add_generation_prompt);
  EXPECT_EQ(read->conversation.template_args.dump(), R"({"enable_thinking":false})");
}

TEST(ChatRequestTest, ToolsOfAChoiceOfNoneAreNeitherShownNorParsed) {
  R request = Good();
  request.add_tools_json(kTool);
  request.set_tool_choice_json("\"none\"");
  const auto read = ReadChatRequest(request);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->conversation.tools.is_null());
  EXPECT_FALSE(read->parses_tool_calls);
}

TEST(ChatRequestTest, ContinuingLeavesTheGenerationPromptOut) {
  R request = Good();
  Add(&request, "assistant", "well");
  request.set_continue_final_message(true);
  EXPECT_FALSE(ReadChatRequest(request)->conversation.add_generation_prompt);
}

// A list that would take the stack of whoever follows it down.
std::string Deep() { return std::string(80000, '[') + std::string(80000, ']'); }

struct Refusal {
  std::string field, message;
  v1::ErrorCode code;
  std::function<void(R&)> spoil;
};

TEST(ChatRequestTest, RefusesEachBadConversationByFieldAndIndex) {
  const auto bad = v1::ERROR_CODE_INVALID_FIELD;
  const auto none = v1::ERROR_CODE_UNSUPPORTED;
  const std::vector<Refusal> table = {
      {"messages[2].role", "\"wizard\"", bad, [](R& r) { Add(&r, "wizard", "x"); }},
      {"messages[2].role", "empty", bad, [](R& r) { Add(&r, "", "x"); }},
      {"messages[2].role", "first only", bad, [](R& r) { Add(&r, "system", "x"); }},
      {"messages[0].role", "no message up to here is of role user", bad,
       [](R& r) { r.mutable_messages()->RemoveLast(); }},
      {"messages[1].content", "says nothing", bad,
       [](R& r) { r.mutable_messages(1)->clear_content(); }},
      {"messages[1].content[1]", "set text", bad,
       [](R& r) { r.mutable_messages(1)->add_content(); }},
      {"messages[1].content[0].media", "only text", none,
       [](R& r) {
         r.mutable_messages(1)->mutable_content(0)->mutable_media()->set_mime_type("image/png");
       }},
      {"messages[1].tool_calls", "only an assistant", bad,
       [](R& r) { r.mutable_messages(1)->add_tool_calls()->set_name("add"); }},
      {"messages[2].tool_calls[0].name", "names its tool", bad,
       [](R& r) { Add(&r, "assistant", "")->add_tool_calls(); }},
      {"messages[2].tool_calls[0].arguments_json", "no JSON", bad,
       [](R& r) {
         v1::ToolCall* call = Add(&r, "assistant", "")->add_tool_calls();
         call->set_name("add");
         call->set_arguments_json("{\"a\": ");
       }},
      {"messages[2].tool_calls[0].arguments_json", "no JSON object", bad,
       [](R& r) {
         v1::ToolCall* call = Add(&r, "assistant", "")->add_tool_calls();
         call->set_name("add");
         call->set_arguments_json("[1]");
       }},
      {"tools_json[1]", "no JSON", bad,
       [](R& r) {
         r.add_tools_json(kTool);
         r.add_tools_json("tool");
       }},
      {"tools_json[1].name", "is absent", bad,
       [](R& r) {
         r.add_tools_json(kTool);
         r.add_tools_json("{\"type\": \"function\"}");
       }},
      {"tools_json[0].function.parameters", "is [1]: it is no JSON object; send a JSON schema", bad,
       [](R& r) { r.add_tools_json(R"({"function": {"name": "f", "parameters": [1]}})"); }},
      {"tools_json[0]", "it is no JSON; give one tool in each", bad,
       [](R& r) { r.add_tools_json(""); }},
      {"tools_json[0]", "inside one another", bad,
       [](R& r) { r.add_tools_json("{\"a\":" + Deep() + "}"); }},
      {"tools_json[0].function.parameters.maximum", "beyond 64 bits; send it as a string", bad,
       [](R& r) {
         r.add_tools_json(
             R"({"function": {"name": "f", "parameters": {"maximum": 12345678901234567890123}}})");
       }},
      {"messages[2].tool_calls[0].arguments_json", "inside one another", bad,
       [](R& r) {
         v1::ToolCall* call = Add(&r, "assistant", "")->add_tool_calls();
         call->set_name("add");
         call->set_arguments_json("{\"a\":" + Deep() + "}");
       }},
      {"messages[2].tool_calls[0].arguments_json.a", "beyond 64 bits", bad,
       [](R& r) {
         v1::ToolCall* call = Add(&r, "assistant", "")->add_tool_calls();
         call->set_name("add");
         call->set_arguments_json("{\"a\": 18446744073709551616}");
       }},
      {"tool_choice_json", "inside one another", bad, [](R& r) { r.set_tool_choice_json(Deep()); }},
      {"template_args_json", "inside one another", bad,
       [](R& r) { r.set_template_args_json("{\"a\":" + Deep() + "}"); }},
      {"template_args_json", "more than 4096 members", bad,
       [](R& r) {
         std::string args = "{\"x\": 1";
         for (int i = 0; i < 60000; ++i) absl::StrAppend(&args, ", \"", i, "\": 1");
         r.set_template_args_json(args + "}");
       }},
      {"tool_choice_json", "a string has its quotes", bad,
       [](R& r) { r.set_tool_choice_json("auto"); }},
      {"tool_choice_json", "no choice of tools", bad,
       [](R& r) { r.set_tool_choice_json("\"any\""); }},
      {"tool_choice_json", "constrained decoding", none,
       [](R& r) { r.set_tool_choice_json("\"required\""); }},
      {"tool_choice_json", "constrained decoding", none,
       [](R& r) {
         r.set_tool_choice_json(R"({"type": "function", "function": {"name": "add"}})");
       }},
      {"template_args_json", "no JSON object", bad, [](R& r) { r.set_template_args_json("[]"); }},
      {"template_args_json", "it is no JSON", bad, [](R& r) { r.set_template_args_json("{"); }},
  };
  for (const Refusal& refusal : table) {
    SCOPED_TRACE(refusal.field + ": " + refusal.message);
    R request = Good();
    refusal.spoil(request);
    const auto read = ReadChatRequest(request);
    ASSERT_FALSE(read.ok());
    const v1::ErrorDetail detail = DetailOf(read.status());
    EXPECT_EQ(detail.field(), refusal.field);
    EXPECT_EQ(detail.code(), refusal.code);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(refusal.message));
    EXPECT_FALSE(detail.remedy().empty());
  }
}

}  // namespace
}  // namespace deltaserve
