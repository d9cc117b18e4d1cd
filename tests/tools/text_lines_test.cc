#include "tools/text_lines.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace deltaserve {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class TextLinesTest : public testing::Test {
 protected:
  json Ask(const json& line) { return json::parse(lines_->Answer(line.dump())); }

  const std::unique_ptr<TextLines> lines_ = *TextLines::Create(
      std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/tokenizer", absl::UnixEpoch());
};

TEST_F(TextLinesTest, TextGoesThereAndBack) {
  const std::string text = "hi \xf0\x9f\xa6\x99<|im_end|>";
  const json tokens = Ask({{"id", 7}, {"tokenize", text}});
  EXPECT_EQ(tokens["id"], 7);
  const json back = Ask({{"detokenize", tokens["tokens"]}, {"skip_special_tokens", false}});
  EXPECT_TRUE(back["id"].is_null());
  EXPECT_EQ(back["text"], text);
  EXPECT_EQ(back["pieces"].size(), tokens["tokens"].size() + 1);
  std::string joined;
  for (const json& piece : back["pieces"]) joined += piece.get<std::string>();
  EXPECT_EQ(joined, text);
  EXPECT_EQ(Ask({{"detokenize", tokens["tokens"]}})["text"], "hi \xf0\x9f\xa6\x99");
}

TEST_F(TextLinesTest, RendersWithTheModelsTemplateOrOneOfTheLine) {
  const json messages = {{{"role", "user"}, {"content", "hi"}}};
  const json own = Ask({{"id", "a"},
                        {"render",
                         {{"messages", messages},
                          {"add_generation_prompt", true},
                          {"template_args", {{"enable_thinking", false}}}}}});
  EXPECT_EQ(own["text"],
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  EXPECT_EQ(Ask({{"tokenize", own["text"]}})["tokens"], own["tokens"]);
  const json other = Ask({{"render",
                           {{"template",
                             "{{ x + 1 }} {{ messages is defined }} "
                             "{{ strftime_now('%Y') }}"},
                            {"template_args", {{"x", 2}}}}}});
  EXPECT_EQ(other["text"].get<std::string>().substr(0, 8), "3 False ");
}

TEST_F(TextLinesTest, ParsesAnAnswerWholeOrInPieces) {
  const std::string text =
      "so\n</think>\n\nI add.<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
      "</function>\n</tool_call>";
  const json tools = json::parse(
      R"([{"type": "function", "function":
          {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}])");
  const json whole = Ask({{"parse", text}, {"tools", tools}, {"starts_in_reasoning", true}});
  EXPECT_EQ(whole["reasoning"], "so");
  EXPECT_EQ(whole["content"], "I add.");
  EXPECT_EQ(whole["tool_calls"].dump(), R"([{"arguments":"{\"a\": 1}","name":"add"}])");
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    json line = {{"parse", text}, {"tools", tools}, {"starts_in_reasoning", true}};
    line["chunks"] = {text.substr(0, cut), text.substr(cut)};
    EXPECT_EQ(Ask(line), whole) << cut;
  }
}

TEST_F(TextLinesTest, BadLinesAreAnsweredAndNameTheField) {
  const std::string deep = std::string(80000, '[') + std::string(80000, ']');
  const struct {
    std::string line, field, message;
  } kCases[] = {
      {"nonsense", "line", "it is no JSON;"},
      {"[1]", "line", "no JSON object"},
      {"{\"tokenize\": " + deep + "}", "line", "inside one another"},
      {"{\"render\": {\"template_args\": {\"a\": " + deep + "}}}", "line", "inside one another"},
      {"{\"id\": " + deep + "}", "line", "inside one another"},
      {R"({"id": 99999999999999999999, "tokenize": "x"})", "id", "beyond 64 bits"},
      {"{}", "line", "asks for nothing"},
      {R"({"tokenize": 5})", "tokenize", "give a text"},
      {R"({"tokenize": "x", "model": 1})", "model", "no such field"},
      {R"({"detokenize": "x"})", "detokenize", "list of token ids"},
      {R"({"detokenize": [1, 5000]})", "detokenize[1]", "no such token"},
      {R"({"detokenize": [1.5]})", "detokenize[0]", "no such token"},
      {R"({"detokenize": [99999999999999999999]})", "detokenize[0]", "beyond 64 bits"},
      {R"({"detokenize": [1], "skip_special_tokens": 1})", "skip_special_tokens", "true or false"},
      {R"({"render": []})", "render", "give an object"},
      {R"({"render": {"message": []}})", "message", "no such field"},
      {R"({"render": {"messages": []}})", "messages", "send a user message"},
      {R"({"render": {"messages": [1]}})", "messages", "list of objects"},
      {R"({"render": {"messages": [{"role": "wizard", "content": "x"}]}})", "messages", "wizard"},
      {R"({"render": {"template": 5}})", "template", "give a text"},
      {R"({"render": {"template": "{% if %}"}})", "template", "chat_template.jinja:1:"},
      {R"({"render": {"template": "{{ x.y.z }}"}})", "template", "chat_template.jinja:1:"},
      {R"({"render": {"template": "x", "template_args": 5}})", "template_args", "give an object"},
      {R"({"render": {"messages": [{"role": "user"}], "template_args": {"tools": 5}}})",
       "template_args.tools", "the request's own field"},
      {R"({"parse": 5})", "parse", "give a text"},
      {R"({"parse": "x", "tools": 5})", "tools", "give a list"},
      {R"({"parse": "x", "tools": [{"name": "f"}, {}]})", "tools[1].name", "is absent"},
      {R"({"parse": "x", "tools": [5]})", "tools[0]", "no JSON object"},
      {R"({"parse": "x", "chunks": ["y"]})", "chunks", "not the text of parse"},
      {R"({"parse": "x", "starts_in_reasoning": "no"})", "starts_in_reasoning", "true or false"},
  };
  for (const auto& test : kCases) {
    const json answer = json::parse(lines_->Answer(test.line));
    ASSERT_TRUE(answer.contains("error")) << test.line;
    EXPECT_EQ(answer["error"]["code"], "ERROR_CODE_INVALID_FIELD") << test.line;
    EXPECT_EQ(answer["error"]["field"], test.field) << test.line;
    EXPECT_THAT(answer["error"]["message"].get<std::string>(), HasSubstr(test.message));
  }
}

TEST_F(TextLinesTest, ALineThatIsRefusedIsAnsweredUnderItsId) {
  const std::string deep = std::string(80000, '[') + std::string(80000, ']');
  const struct {
    std::string line, id;
  } kCases[] = {
      {"{\"id\": \"a\", \"tokenize\": " + deep + "}", "\"a\""},
      {"{\"tokenize\": " + deep + ", \"id\": 7}", "7"},
      {"{\"tokenize\": {\"id\": 8}, \"id\": 7}", "7"},
      {"{\"tokenize\": {\"id\": 8}}", "null"},
      {"{\"id\": " + deep + "}", "null"},
      {"{\"id\": {\"id\": [8, {}]}, \"tokenize\": 5}", "{\"id\":[8,{}]}"},
      {"{\"id\": 7", "null"},
      {"[{\"id\": 7}]", "null"},
  };
  for (const auto& test : kCases) {
    const json answer = json::parse(lines_->Answer(test.line));
    EXPECT_TRUE(answer.contains("error"));
    EXPECT_EQ(answer["id"].dump(), test.id);
  }
}

TEST_F(TextLinesTest, LongValuesAreShownCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "\xf0\x9f\xa6\x99";
  const json answer = Ask({{"id", 1}, {"render", text}});
  const auto message = answer["error"]["message"].get<std::string>();
  EXPECT_THAT(message, HasSubstr("\xf0\x9f\xa6\x99...: "));
  EXPECT_THAT(message, testing::Not(HasSubstr("\xef\xbf\xbd")));
}

}  // namespace
}  // namespace deltaserve
