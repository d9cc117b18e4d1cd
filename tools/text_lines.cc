#include "tools/text_lines.h"

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/client_json.h"
#include "router/text/detokenizer.h"
#include "router/text/reasoning_splitter.h"
#include "router/text/text_assets.h"
#include "router/text/tool_call_parser.h"
#include "router/text/tool_schema.h"
#include "tools/json_lines.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

absl::Status Wrong(const std::string& field, const Json& value, const std::string& wanted) {
  return InvalidField(field, DumpJson(value), "it is not what is expected",
                      absl::StrCat("give ", wanted));
}

absl::Status CheckFields(const Json& object, const std::set<std::string>& known) {
  for (const auto& [name, value] : object.items()) {
    if (known.contains(name)) continue;
    std::string names;
    for (const std::string& one : known) absl::StrAppend(&names, names.empty() ? "" : ", ", one);
    return InvalidField(name, DumpJson(value), "there is no such field",
                        absl::StrCat("use ", names));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> BoolOr(const Json& object, const char* name, bool fallback) {
  if (!object.contains(name)) return fallback;
  if (!object[name].is_boolean()) return Wrong(name, object[name], "true or false");
  return object[name].get<bool>();
}

// The member `name`, an array of whatever; null where it is absent or null.
absl::StatusOr<Json> ArrayOrNull(const Json& object, const char* name) {
  if (!object.contains(name) || object[name].is_null()) return Json();
  if (!object[name].is_array()) return Wrong(name, object[name], "a list");
  return object[name];
}

absl::StatusOr<ToolSchema> ReadToolsOf(const Json& line) {
  DS_ASSIGN_OR_RETURN(const Json tools, ArrayOrNull(line, "tools"));
  return ToolSchema::Read(tools, "tools");
}

// `text` in the pieces that `line` asks for.
absl::StatusOr<std::vector<std::string>> ReadChunks(const Json& line) {
  const std::string& text = line["parse"].get_ref<const std::string&>();
  DS_ASSIGN_OR_RETURN(const Json chunks, ArrayOrNull(line, "chunks"));
  if (chunks.is_null()) return std::vector<std::string>{text};
  std::vector<std::string> pieces;
  std::string joined;
  for (const Json& chunk : chunks) {
    if (!chunk.is_string()) return Wrong("chunks", chunk, "a list of strings");
    pieces.push_back(chunk.get<std::string>());
    joined += pieces.back();
  }
  if (joined != text) {
    return InvalidField("chunks", absl::StrCat(pieces.size(), " pieces"),
                        "joined they are not the text of parse", "cut the same text");
  }
  return pieces;
}

// Joins what a parser makes piece by piece.
class Joined {
 public:
  void Add(const std::vector<ToolCallEvent>& events) {
    for (const ToolCallEvent& event : events) {
      switch (event.kind) {
        case ToolCallEvent::Kind::kContent:
          content_ += event.text;
          break;
        case ToolCallEvent::Kind::kCallStart:
          calls_.emplace_back(event.text, "");
          break;
        case ToolCallEvent::Kind::kArguments:
          calls_.at(event.index).second += event.text;
          break;
        case ToolCallEvent::Kind::kCallEnd:
          break;
      }
    }
  }
  Json ToJson(const std::string& reasoning) const {
    Json calls = Json::array();
    for (const auto& [name, arguments] : calls_) {
      calls.push_back({{"name", name}, {"arguments", arguments}});
    }
    return {{"reasoning", reasoning}, {"content", content_}, {"tool_calls", std::move(calls)}};
  }

 private:
  std::string content_;
  std::vector<std::pair<std::string, std::string>> calls_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextLines>> TextLines::Create(const std::string& folder,
                                                             std::optional<absl::Time> now) {
  std::unique_ptr<TextLines> lines(new TextLines());
  DS_ASSIGN_OR_RETURN(const TextAssets assets, TextAssets::Read(folder));
  DS_ASSIGN_OR_RETURN(lines->tokenizer_, assets.MakeTokenizer());
  lines->chat_template_ = ChatTemplate::Create(assets);
  lines->now_ = now;
  return lines;
}

std::string TextLines::Answer(const std::string& line) const {
  const std::string id = LineId(line);
  absl::StatusOr<Json> object = ParseLine(line);
  if (!object.ok()) return WriteErrorLine(id, object.status());
  const absl::StatusOr<Json> answer = Run(*object);
  if (!answer.ok()) return WriteErrorLine(id, answer.status());
  return absl::StrCat("{\"id\": ", id, ", ", DumpJson(*answer).substr(1));
}

absl::StatusOr<Json> TextLines::Run(const Json& line) const {
  if (line.contains("tokenize")) {
    DS_RETURN_IF_ERROR(CheckFields(line, {"id", "tokenize"}));
    return Tokenize(line["tokenize"]);
  }
  if (line.contains("detokenize")) {
    DS_RETURN_IF_ERROR(CheckFields(line, {"id", "detokenize", "skip_special_tokens"}));
    return Detokenize(line);
  }
  if (line.contains("render")) {
    DS_RETURN_IF_ERROR(CheckFields(line, {"id", "render"}));
    return Render(line["render"]);
  }
  if (line.contains("parse")) {
    DS_RETURN_IF_ERROR(
        CheckFields(line, {"id", "parse", "tools", "starts_in_reasoning", "chunks"}));
    return ParseAnswer(line);
  }
  return InvalidField("line", DumpJson(line), "it asks for nothing",
                      "give tokenize, detokenize, render or parse");
}

absl::StatusOr<Json> TextLines::Tokenize(const Json& text) const {
  if (!text.is_string()) return Wrong("tokenize", text, "a text");
  const auto ids = tokenizer_->Encode(text.get_ref<const std::string&>());
  if (!ids.ok()) {
    return InvalidField("tokenize", "a text", std::string(ids.status().message()), "correct it");
  }
  return Json{{"tokens", *ids}};
}

absl::StatusOr<Json> TextLines::Detokenize(const Json& line) const {
  const Json& ids = line["detokenize"];
  if (!ids.is_array()) return Wrong("detokenize", ids, "a list of token ids");
  DS_ASSIGN_OR_RETURN(const bool skip, BoolOr(line, "skip_special_tokens", true));
  Detokenizer detokenizer(*tokenizer_, skip);
  Json pieces = Json::array();
  std::string text;
  const auto add = [&](std::string piece) {
    text += piece;
    pieces.push_back(std::move(piece));
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool fits = ids[i].is_number_integer() && ids[i] >= 0 && ids[i] < INT32_MAX;
    if (!fits || !tokenizer_->HasToken(ids[i].get<int32_t>())) {
      return InvalidField(absl::StrCat("detokenize[", i, "]"), DumpJson(ids[i]),
                          "the vocabulary has no such token", "leave it out");
    }
    add(detokenizer.Add(ids[i].get<int32_t>()));
  }
  add(detokenizer.Finish());
  return Json{{"text", std::move(text)}, {"pieces", std::move(pieces)}};
}

absl::StatusOr<Json> TextLines::Render(const Json& asked) const {
  if (!asked.is_object()) return Wrong("render", asked, "an object");
  DS_RETURN_IF_ERROR(CheckFields(asked, {"messages", "tools", "template_args", "template",
                                         "add_generation_prompt", "continue_final_message"}));
  const ChatTemplate* chat_template = nullptr;
  std::unique_ptr<const ChatTemplate> own;
  if (asked.contains("template")) {
    if (!asked["template"].is_string()) return Wrong("template", asked["template"], "a text");
    const std::string& source = asked["template"].get_ref<const std::string&>();
    auto parsed = chat_template_.ok() ? (*chat_template_)->WithSource(source)
                                      : ChatTemplate::Parse(source, Json::object());
    if (!parsed.ok()) {
      return InvalidField("template", absl::StrCat(source.size(), " bytes"),
                          std::string(parsed.status().message()), "correct it");
    }
    own = *std::move(parsed);
    chat_template = own.get();
  } else if (chat_template_.ok()) {
    chat_template = chat_template_->get();
  } else {
    return InvalidField("template", "absent", std::string(chat_template_.status().message()),
                        "give one");
  }
  Conversation conversation;
  conversation.template_args_field = "template_args";
  if (asked.contains("template_args")) conversation.template_args = asked["template_args"];
  const absl::Time now = now_.value_or(absl::Now());
  absl::StatusOr<std::string> text;
  if (!asked.contains("messages") && own != nullptr) {
    if (!conversation.template_args.is_object()) {
      return Wrong("template_args", conversation.template_args, "an object");
    }
    text = chat_template->RenderVariables(conversation.template_args, now, absl::LocalTimeZone());
  } else {
    DS_ASSIGN_OR_RETURN(conversation.messages, ArrayOrNull(asked, "messages"));
    for (const Json& message : conversation.messages) {
      if (!message.is_object()) return Wrong("messages", message, "a list of objects");
    }
    DS_ASSIGN_OR_RETURN(conversation.tools, ArrayOrNull(asked, "tools"));
    DS_ASSIGN_OR_RETURN(conversation.continue_final_message,
                        BoolOr(asked, "continue_final_message", false));
    DS_ASSIGN_OR_RETURN(conversation.add_generation_prompt,
                        BoolOr(asked, "add_generation_prompt", false));
    text = chat_template->Render(conversation, now, absl::LocalTimeZone());
  }
  if (!text.ok()) return text.status();
  DS_ASSIGN_OR_RETURN(Json answer, Tokenize(*text));
  return Json{{"text", *std::move(text)}, {"tokens", std::move(answer["tokens"])}};
}

absl::StatusOr<Json> TextLines::ParseAnswer(const Json& line) const {
  if (!line["parse"].is_string()) return Wrong("parse", line["parse"], "a text");
  DS_ASSIGN_OR_RETURN(const bool starts, BoolOr(line, "starts_in_reasoning", false));
  DS_ASSIGN_OR_RETURN(const ToolSchema schema, ReadToolsOf(line));
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> pieces, ReadChunks(line));
  ReasoningSplitter splitter(starts, ReasoningNewlines::kTrim);
  ToolCallParser parser(schema);
  Joined joined;
  std::string reasoning;
  const auto take = [&](const ReasoningSplitter::Result& split) {
    reasoning += split.reasoning;
    joined.Add(parser.Add(split.content));
  };
  for (const std::string& piece : pieces) take(splitter.Add(piece));
  take(splitter.Finish());
  joined.Add(parser.Finish());
  return joined.ToJson(reasoning);
}

}  // namespace deltaserve
