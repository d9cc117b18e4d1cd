#include "router/text/chat_template.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/error.h"
#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr char kPlain[] =
    "{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}"
    "{% if add_generation_prompt %}[assistant: {% endif %}";
constexpr char kTrimming[] =
    "{% for m in messages %}[{{ m.role }}: {{ m.content | trim }}]{% endfor %}";

absl::StatusOr<std::string> Render(const std::string& source, const Conversation& conversation) {
  const auto parsed = ChatTemplate::Parse(source, {{"eos_token", "<e>"}});
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(conversation, absl::UnixEpoch(), absl::UTCTimeZone());
}

Conversation Of(const std::string& messages) { return {.messages = Json::parse(messages)}; }

TEST(ChatTemplateTest, RendersMessagesArgumentsAndSpecialTokens) {
  Conversation conversation = Of(R"([{"role": "user", "content": "hi"}])");
  conversation.template_args = {{"name", "x"}};
  EXPECT_EQ(
      Render(std::string(kPlain) + "{{ eos_token }}{{ name }}{{ tools is none }}", conversation)
          .value(),
      "[user: hi][assistant: <e>xTrue");
  conversation.tools = Json::array({Json::object({{"b", 1}, {"a", 2}})});
  EXPECT_EQ(Render("{{ tools[0] | tojson }}", conversation).value(), R"({"b": 1, "a": 2})");
}

// What transformers does to messages before a template sees them.
TEST(ChatTemplateTest, NullsAreDroppedAndReasoningHasOneName) {
  const Conversation conversation = Of(
      R"([{"role": "user", "content": null}, {"role": "a", "reasoning": "r"},
          {"role": "a", "thinking": "t"}, {"role": "a", "reasoning": "r", "reasoning_content": "c"}])");
  EXPECT_EQ(Render("{{ messages[0].content is defined }}"
                   "{% for m in messages %},{{ m.reasoning_content }}{% endfor %}",
                   conversation)
                .value(),
            "False,,r,t,c");
}

TEST(ChatTemplateTest, ContinuesTheLastMessage) {
  Conversation conversation = Of(R"([{"role": "user", "content": "hi"},
                                     {"role": "assistant", "content": "It is  "}])");
  conversation.add_generation_prompt = false;
  conversation.continue_final_message = true;
  EXPECT_EQ(Render(kPlain, conversation).value(), "[user: hi][assistant: It is  ");
  EXPECT_EQ(Render(kTrimming, conversation).value(), "[user: hi][assistant: It is");
  conversation.messages[1]["content"] =
      Json::array({Json{{"type", "text"}, {"text", "It"}}, Json{{"type", "image"}}});
  EXPECT_EQ(Render("{{ messages[1].content[0].text }}]", conversation).value(), "It");
}

TEST(ChatTemplateTest, RefusesToContinueWhatIsNotShown) {
  Conversation conversation = Of(R"([{"role": "user", "content": "hi"}])");
  conversation.continue_final_message = true;
  EXPECT_THAT(std::string(Render(kPlain, conversation).status().message()),
              HasSubstr("add_generation_prompt begins a new message"));
  conversation.add_generation_prompt = false;
  for (const std::string source : {"nothing", "{{ messages[0].content | upper }}"}) {
    const absl::Status status = Render(source, conversation).status();
    EXPECT_EQ(DetailOf(status).field(), "continue_final_message") << source;
  }
  conversation.messages[0].erase("content");
  EXPECT_THAT(std::string(Render(kPlain, conversation).status().message()),
              HasSubstr("the last message has no text"));
}

TEST(ChatTemplateTest, RefusalsNameTheField) {
  Conversation none;
  EXPECT_EQ(DetailOf(Render(kPlain, none).status()).field(), "messages");
  Conversation conversation = Of(R"([{"role": "user", "content": "hi"}])");
  const absl::Status raised =
      Render("{{ raise_exception('no ' ~ messages[0].role) }}", conversation).status();
  EXPECT_EQ(DetailOf(raised).code(), v1::ERROR_CODE_INVALID_FIELD);
  EXPECT_THAT(std::string(raised.message()), HasSubstr("no user"));
  conversation.template_args = {{"messages", 1}};
  EXPECT_EQ(DetailOf(Render(kPlain, conversation).status()).field(), "template_args_json.messages");
  conversation.template_args = Json::array();
  EXPECT_EQ(DetailOf(Render(kPlain, conversation).status()).field(), "template_args_json");
  conversation.template_args_field = "args";
  EXPECT_EQ(DetailOf(Render(kPlain, conversation).status()).field(), "args");
}

TEST(ChatTemplateTest, ComesFromItsFileThenFromTheTokenizersConfig) {
  TextAssets assets;
  assets.files[kTokenizerConfigFile] =
      R"({"eos_token": {"content": "<e>"}, "chat_template": "old {{ eos_token }}"})";
  const Conversation conversation = Of(R"([{"role": "user", "content": "hi"}])");
  const auto render = [&]() -> absl::StatusOr<std::string> {
    const auto made = ChatTemplate::Create(assets);
    if (!made.ok()) return made.status();
    return (*made)->Render(conversation, absl::UnixEpoch(), absl::UTCTimeZone());
  };
  EXPECT_EQ(render().value(), "old <e>");
  assets.files[kChatTemplateFile] = "new {{ eos_token }}";
  EXPECT_EQ(render().value(), "new <e>");
  assets.files.clear();
  EXPECT_EQ(render().status().code(), absl::StatusCode::kNotFound);
  assets.files[kChatTemplateFile] = "{% if %}";
  EXPECT_THAT(std::string(render().status().message()), HasSubstr("chat_template.jinja:1:"));
}

TEST(ChatTemplateTest, TheClockIsTheCallers) {
  const auto parsed = ChatTemplate::Parse("{{ strftime_now('%Y-%m-%d') }}", Json::object());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(
      (*parsed)->RenderVariables(Json::object(), absl::UnixEpoch(), absl::UTCTimeZone()).value(),
      "1970-01-01");
}

}  // namespace
}  // namespace deltaserve
