#include "router/text/chat_template.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/client_json.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

// Stands behind the text that the model is to go on from; its last character tells whether the
// template trims.
constexpr char kMarker[] = "DELTASERVE_CONTINUES_HERE ";

// transformers: what a template sees of a message has no null members, and reasoning under the one
// name that templates read.
Json Prepared(const Json& messages) {
  Json prepared = Json::array();
  for (const Json& message : messages) {
    Json kept = Json::object();
    for (const auto& [key, value] : message.items()) {
      if (!value.is_null()) kept[key] = value;
    }
    for (const char* name : {"reasoning", "thinking"}) {
      if (kept.contains(name) && !kept.contains("reasoning_content")) {
        kept["reasoning_content"] = kept[name];
      }
    }
    prepared.push_back(std::move(kept));
  }
  return prepared;
}

// The text of the last message, with the marker appended to it. Null where it has none.
std::string* MarkedText(Json* messages) {
  Json& content = messages->back()["content"];
  if (content.is_string()) return content.get_ptr<std::string*>();
  if (!content.is_array()) return nullptr;
  for (auto part = content.rbegin(); part != content.rend(); ++part) {
    if (part->is_object() && part->contains("text") && (*part)["text"].is_string()) {
      return (*part)["text"].get_ptr<std::string*>();
    }
  }
  return nullptr;
}

absl::Status Refused(const std::string& why) {
  return InvalidField("continue_final_message", "true", why,
                      "leave it out, or send the text so far as the last message's content");
}

std::string Stripped(std::string text) {
  absl::StripAsciiWhitespace(&text);
  return text;
}

// `rendered` up to the marker.
absl::StatusOr<std::string> CutAtMarker(std::string rendered, const std::string& final_text) {
  const std::string_view marker = kMarker;
  const size_t at = rendered.rfind(marker.substr(0, marker.size() - 1));
  if (at == std::string::npos || rendered.find(Stripped(final_text)) == std::string::npos) {
    return Refused("the template does not show the last message's content as it is");
  }
  const bool trims = std::string_view(rendered).substr(at, marker.size()) != marker;
  rendered.resize(at);
  if (trims) absl::StripTrailingAsciiWhitespace(&rendered);
  return rendered;
}

absl::Status CheckTemplateArgs(const Json& args, const std::string& field) {
  if (!args.is_object()) {
    return InvalidField(field, DumpJson(args), "it is no JSON object",
                        "send an object such as {\"enable_thinking\": false}");
  }
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt"}) {
    if (!args.contains(name)) continue;
    return InvalidField(absl::StrCat(field, ".", name), DumpJson(args[name]),
                        "it is no argument of a template", "use the request's own field");
  }
  return absl::OkStatus();
}

// A special token as tokenizer_config.json spells it: a string, or an object with its content.
const std::string* TokenText(const Json& value) {
  if (value.is_string()) return value.get_ptr<const std::string*>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get_ptr<const std::string*>();
  }
  return nullptr;
}

// True where all that a user says is what a tool answered, in the form of templates: no question.
bool IsToolResponse(const Json& message) {
  if (!message.contains("content") || !message["content"].is_string()) return false;
  const std::string text = Stripped(message["content"].get<std::string>());
  return text.starts_with("<tool_response>") && text.ends_with("</tool_response>");
}

// The last message of a user, where none of theirs is a question.
std::optional<size_t> LastWithoutQuestion(const Json& messages) {
  std::optional<size_t> last;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    if (!message.is_object() || !message.contains("role") || message["role"] != "user") continue;
    if (!IsToolResponse(message)) return std::nullopt;
    last = i;
  }
  return last;
}

// A template says what it refuses, but not where.
absl::Status FromTemplate(const absl::Status& status, const Json& messages) {
  const std::string why(status.message());
  if (const auto at = LastWithoutQuestion(messages); at.has_value()) {
    return InvalidField(absl::StrCat("messages[", *at, "].content"), "a <tool_response> alone", why,
                        "send a user message that asks, and what a tool answered with role tool");
  }
  return InvalidField("messages", "this conversation", why,
                      "send a conversation that the model's chat template takes");
}

absl::StatusOr<std::string> RenderBounded(const jinja::Template& compiled,
                                          Json variables,
                                          absl::Time now,
                                          absl::TimeZone zone) {
  return compiled.Render({.variables = std::move(variables), .now = now, .zone = zone},
                         jinja::Limits());
}

}  // namespace

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::Create(const TextAssets& assets) {
  Json special_tokens = Json::object();
  Json config = Json::parse(assets.Bytes(kTokenizerConfigFile), nullptr, false);
  if (!config.is_object()) config = Json::object();
  for (const char* name : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (!config.contains(name)) continue;
    if (const std::string* text = TokenText(config[name])) special_tokens[name] = *text;
  }
  std::string_view source = assets.Bytes(kChatTemplateFile);
  if (!assets.files.contains(kChatTemplateFile)) {
    if (!config.contains("chat_template") || !config["chat_template"].is_string()) {
      return absl::NotFoundError(absl::StrCat("the model has no ", kChatTemplateFile,
                                              " and no chat_template in ", kTokenizerConfigFile));
    }
    source = config["chat_template"].get_ref<const std::string&>();
  }
  return Parse(source, std::move(special_tokens));
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::Parse(std::string_view source,
                                                                        Json special_tokens) {
  DS_ASSIGN_OR_RETURN(std::unique_ptr<const jinja::Template> compiled,
                      jinja::Template::Parse(source, kChatTemplateFile));
  return std::unique_ptr<const ChatTemplate>(
      new ChatTemplate(std::move(compiled), std::move(special_tokens)));
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::WithSource(
    std::string_view source) const {
  return Parse(source, special_tokens_);
}

absl::StatusOr<std::string> ChatTemplate::RenderVariables(Json variables,
                                                          absl::Time now,
                                                          absl::TimeZone zone) const {
  absl::StatusOr<std::string> text = RenderBounded(*compiled_, std::move(variables), now, zone);
  if (text.ok()) return text;
  return InvalidField("template", "this template", std::string(text.status().message()),
                      "send a template that renders these arguments");
}

absl::StatusOr<std::string> ChatTemplate::Render(const Conversation& conversation,
                                                 absl::Time now,
                                                 absl::TimeZone zone) const {
  if (conversation.messages.empty()) {
    return InvalidField("messages", "none", "there is nothing to answer", "send a user message");
  }
  DS_RETURN_IF_ERROR(
      CheckTemplateArgs(conversation.template_args, conversation.template_args_field));
  Json variables = special_tokens_;
  for (const auto& [key, value] : conversation.template_args.items()) variables[key] = value;
  Json messages = Prepared(conversation.messages);
  std::string final_text;
  if (conversation.continue_final_message) {
    if (conversation.add_generation_prompt) {
      return Refused("add_generation_prompt begins a new message");
    }
    std::string* text = MarkedText(&messages);
    if (text == nullptr) return Refused("the last message has no text");
    final_text = *text;
    *text += kMarker;
  }
  variables["messages"] = std::move(messages);
  variables["tools"] = conversation.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = conversation.add_generation_prompt;
  absl::StatusOr<std::string> rendered = RenderBounded(*compiled_, std::move(variables), now, zone);
  if (!rendered.ok()) return FromTemplate(rendered.status(), conversation.messages);
  if (!conversation.continue_final_message) return rendered;
  return CutAtMarker(*std::move(rendered), final_text);
}

}  // namespace deltaserve
