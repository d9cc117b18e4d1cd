#include "tools/eval/question.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/client_json.h"
#include "tools/json_lines.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

absl::Status Wrong(const std::string& field, const Json& value, const std::string& wanted) {
  return InvalidField(field, DumpJson(value), "it is not what is expected",
                      absl::StrCat("give ", wanted));
}

absl::StatusOr<std::string> TextOf(const Json& object, const char* name) {
  const Json value = object.value(name, Json());
  if (!value.is_string()) return Wrong(name, value, "a string");
  return value.get<std::string>();
}

absl::StatusOr<Json> ArrayOf(const Json& object, const char* name) {
  Json value = object.value(name, Json::array());
  if (!value.is_array()) return Wrong(name, value, "a list");
  return value;
}

absl::StatusOr<v1::Message> ParseMessage(const Json& json) {
  if (!json.is_object()) return Wrong("messages", json, "objects");
  v1::Message message;
  DS_ASSIGN_OR_RETURN(*message.mutable_role(), TextOf(json, "role"));
  DS_ASSIGN_OR_RETURN(const std::string content, TextOf(json, "content"));
  if (!content.empty()) message.add_content()->set_text(content);
  if (json.contains("reasoning_content")) {
    DS_ASSIGN_OR_RETURN(*message.mutable_reasoning(), TextOf(json, "reasoning_content"));
  }
  DS_ASSIGN_OR_RETURN(const Json calls, ArrayOf(json, "tool_calls"));
  Json functions = Json::array();
  for (const Json& call : calls) {
    functions.push_back(call.is_object() ? call.value("function", Json()) : Json());
  }
  DS_ASSIGN_OR_RETURN(const std::vector<ToolUse> uses, ParseToolUses(functions));
  for (const ToolUse& use : uses) {
    v1::ToolCall* call = message.add_tool_calls();
    call->set_name(use.name);
    call->set_arguments_json(DumpJson(use.arguments));
  }
  return message;
}

}  // namespace

bool ToolUse::operator==(const ToolUse& other) const {
  return name == other.name &&
         nlohmann::json::parse(arguments.dump()) == nlohmann::json::parse(other.arguments.dump());
}

absl::StatusOr<std::vector<ToolUse>> ParseToolUses(const Json& value) {
  std::vector<ToolUse> uses;
  for (const Json& call : value) {
    if (!call.is_object() || !call.value("name", Json()).is_string() ||
        !call.value("arguments", Json()).is_object()) {
      return Wrong("tool_calls", call, R"({"name": text, "arguments": object})");
    }
    uses.push_back({call["name"].get<std::string>(), call["arguments"]});
  }
  return uses;
}

absl::StatusOr<Question> ParseQuestion(const std::string& line) {
  DS_ASSIGN_OR_RETURN(const Json json, ParseLine(line));
  Question question;
  DS_ASSIGN_OR_RETURN(question.id, TextOf(json, "id"));
  DS_ASSIGN_OR_RETURN(question.task, TextOf(json, "task"));
  DS_ASSIGN_OR_RETURN(question.content, TextOf(json, "answer"));
  DS_ASSIGN_OR_RETURN(const Json messages, ArrayOf(json, "messages"));
  for (const Json& message : messages) {
    DS_ASSIGN_OR_RETURN(*question.request.add_messages(), ParseMessage(message));
  }
  DS_ASSIGN_OR_RETURN(const Json tools, ArrayOf(json, "tools"));
  for (const Json& tool : tools) question.request.add_tools_json(DumpJson(tool));
  DS_ASSIGN_OR_RETURN(const Json calls, ArrayOf(json, "tool_calls"));
  DS_ASSIGN_OR_RETURN(question.calls, ParseToolUses(calls));
  const Json thinking = json.value("thinking", Json(false));
  if (!thinking.is_boolean()) return Wrong("thinking", thinking, "true or false");
  question.thinking = thinking.get<bool>();
  question.request.set_template_args_json(
      absl::StrCat("{\"enable_thinking\": ", question.thinking ? "true" : "false", "}"));
  return question;
}

absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path,
                                                    const std::vector<std::string>& tasks) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--questions is ", path, ": no file"));
  std::vector<Question> questions;
  std::vector<std::string> missing = tasks;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    absl::StatusOr<Question> question = ParseQuestion(line);
    if (!question.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " line ", number, ": ", question.status().message()));
    }
    std::erase(missing, question->task);
    if (tasks.empty() || std::ranges::find(tasks, question->task) != tasks.end()) {
      questions.push_back(*std::move(question));
    }
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--task is ", missing.front(), ": ", path, " has no question of it"));
  }
  return questions;
}

}  // namespace deltaserve
