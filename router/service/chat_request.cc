#include "router/service/chat_request.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/client_json.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

// `text` as a JSON object; empty text is an empty one.
absl::StatusOr<Json> ReadObject(const std::string& text, const std::string& field) {
  if (text.empty()) return Json::object();
  return ReadClientObject(text, {.field = field, .remedy = "send a JSON object as text"});
}

absl::StatusOr<std::string> ReadContent(const v1::Message& message, const std::string& field) {
  std::string text;
  for (int i = 0; i < message.content_size(); ++i) {
    const v1::ContentPart& part = message.content(i);
    const std::string at = absl::StrCat(field, ".content[", i, "]");
    if (part.has_media()) {
      return UnsupportedField(absl::StrCat(at, ".media"), part.media().mime_type(),
                              "only text is served in this version; leave it out");
    }
    if (!part.has_text()) {
      return InvalidField(at, "absent", "a part of a message says nothing", "set text");
    }
    text += part.text();
  }
  return text;
}

absl::StatusOr<Json> ReadToolCalls(const v1::Message& message, const std::string& field) {
  Json calls = Json::array();
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    const std::string at = absl::StrCat(field, ".tool_calls[", i, "]");
    if (call.name().empty()) {
      return InvalidField(absl::StrCat(at, ".name"), "empty", "a call names its tool",
                          "set the tool's name");
    }
    DS_ASSIGN_OR_RETURN(Json arguments,
                        ReadObject(call.arguments_json(), absl::StrCat(at, ".arguments_json")));
    Json json = Json::object();
    if (!call.id().empty()) json["id"] = call.id();
    json["type"] = "function";
    json["function"] = {{"name", call.name()}, {"arguments", std::move(arguments)}};
    calls.push_back(std::move(json));
  }
  return calls;
}

absl::Status CheckPlace(const v1::Message& message, int index, const std::string& field) {
  const std::string& role = message.role();
  if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
    return InvalidField(absl::StrCat(field, ".role"),
                        role.empty() ? "empty" : absl::StrCat("\"", role, "\""),
                        "it is no role of a conversation", "use system, user, assistant or tool");
  }
  if (role == "system" && index > 0) {
    return InvalidField(absl::StrCat(field, ".role"), "\"system\"",
                        "a system message stands first only", "make it messages[0]");
  }
  if (role != "assistant" && message.tool_calls_size() > 0) {
    return InvalidField(absl::StrCat(field, ".tool_calls"),
                        absl::StrCat(message.tool_calls_size(), " calls"),
                        "only an assistant message calls tools", "leave them out");
  }
  if (role != "assistant" && message.content_size() == 0) {
    return InvalidField(absl::StrCat(field, ".content"), "empty", "the message says nothing",
                        "add a part of text");
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadMessage(const v1::Message& message, int index) {
  const std::string field = absl::StrCat("messages[", index, "]");
  DS_RETURN_IF_ERROR(CheckPlace(message, index, field));
  Json json = Json::object();
  json["role"] = message.role();
  DS_ASSIGN_OR_RETURN(json["content"], ReadContent(message, field));
  if (!message.reasoning().empty()) json["reasoning_content"] = message.reasoning();
  if (message.tool_calls_size() > 0) {
    DS_ASSIGN_OR_RETURN(json["tool_calls"], ReadToolCalls(message, field));
  }
  if (!message.tool_call_id().empty()) json["tool_call_id"] = message.tool_call_id();
  if (!message.name().empty()) json["name"] = message.name();
  return json;
}

absl::StatusOr<Json> ReadMessages(const v1::ChatRequest& request) {
  Json messages = Json::array();
  bool has_user = false;
  for (int i = 0; i < request.messages_size(); ++i) {
    DS_ASSIGN_OR_RETURN(Json message, ReadMessage(request.messages(i), i));
    has_user |= request.messages(i).role() == "user";
    messages.push_back(std::move(message));
  }
  if (!messages.empty() && !has_user) {
    const int last = request.messages_size() - 1;
    return InvalidField(absl::StrCat("messages[", last, "].role"),
                        absl::StrCat("\"", request.messages(last).role(), "\""),
                        "no message up to here is of role user, so there is no question",
                        "add a user message");
  }
  return messages;
}

// True where the model may call tools.
absl::StatusOr<bool> ReadToolChoice(const std::string& text) {
  if (text.empty()) return true;
  const ClientJsonSource source = {.field = "tool_choice_json",
                                   .remedy = "use \"auto\" or \"none\": a string has its quotes"};
  DS_ASSIGN_OR_RETURN(const Json choice, ReadClientJson(text, source));
  if (choice == "auto" || choice == "none") return choice == "auto";
  if (choice == "required" || (choice.is_object() && choice.contains("function"))) {
    return UnsupportedField(source.field, text,
                            "constrained decoding is not part of this version; use \"auto\"");
  }
  return InvalidField(source.field, text, "it is no choice of tools", source.remedy);
}

}  // namespace

absl::StatusOr<ChatCall> ReadChatRequest(const v1::ChatRequest& request) {
  ChatCall call;
  DS_ASSIGN_OR_RETURN(call.conversation.messages, ReadMessages(request));
  DS_ASSIGN_OR_RETURN(call.conversation.template_args,
                      ReadObject(request.template_args_json(), "template_args_json"));
  DS_ASSIGN_OR_RETURN(const bool may_call, ReadToolChoice(request.tool_choice_json()));
  const std::vector<std::string> texts(request.tools_json().begin(), request.tools_json().end());
  DS_ASSIGN_OR_RETURN(Json tools, ReadTools(texts));
  DS_ASSIGN_OR_RETURN(call.tools, ToolSchema::Read(tools, "tools_json"));
  if (may_call && !tools.empty()) {
    call.conversation.tools = std::move(tools);
    call.parses_tool_calls = true;
  }
  call.parallel_tool_calls = !request.has_parallel_tool_calls() || request.parallel_tool_calls();
  call.conversation.continue_final_message = request.continue_final_message();
  call.conversation.add_generation_prompt = request.has_add_generation_prompt()
                                                ? request.add_generation_prompt()
                                                : !request.continue_final_message();
  return call;
}

}  // namespace deltaserve
