#include "tools/generate_lines.h"

#include <charconv>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/error.h"
#include "router/service/answer_parts.h"
#include "router/service/request_resolver.h"
#include "tools/json_lines.h"
#include "worker/service/request_reader.h"

namespace deltaserve {
namespace {

using json = nlohmann::ordered_json;

constexpr char kFields[] =
    "use id, ids or text, max_tokens, logits_at, logprobs, prompt_logprobs, and other fields as in "
    "params.proto";

// Lists of ids in place of TokenIds, one or several: [1, 2] for {"ids": [1, 2]}.
json Wrapped(const google::protobuf::FieldDescriptor& field, const json& value) {
  const bool is_ids = field.message_type() != nullptr && field.message_type()->name() == "TokenIds";
  if (!is_ids || !value.is_array()) return value;
  if (!field.is_repeated()) return json{{"ids", value}};
  json lists = json::array();
  for (const json& list : value) {
    lists.push_back(list.is_array() ? json{{"ids", list}} : list);
  }
  return lists;
}

// One field of the line into the part of CallOptions that has it.
absl::Status SetField(const std::string& name, const json& value, v1::CallOptions* options) {
  for (google::protobuf::Message* part :
       {static_cast<google::protobuf::Message*>(options->mutable_sampling()),
        static_cast<google::protobuf::Message*>(options->mutable_stop()),
        static_cast<google::protobuf::Message*>(options->mutable_output()),
        static_cast<google::protobuf::Message*>(options)}) {
    const auto* field = part->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) continue;
    const json wrapped = {{name, Wrapped(*field, value)}};
    const std::unique_ptr<google::protobuf::Message> parsed(part->New());
    if (!google::protobuf::util::JsonStringToMessage(wrapped.dump(), parsed.get()).ok()) {
      return InvalidField(name, value.dump(),
                          absl::StrCat("it is no ", field->cpp_type_name(), " of params.proto"),
                          "correct its type");
    }
    part->MergeFrom(*parsed);
    return absl::OkStatus();
  }
  return InvalidField(name, value.dump(), "there is no such field", kFields);
}

absl::StatusOr<std::vector<int64_t>> ReadPositions(const json& value, int64_t prompt_tokens) {
  const std::string remedy = absl::StrCat("use positions in [", -prompt_tokens, ", ", prompt_tokens,
                                          "), each once, in ascending order of position");
  if (!value.is_array()) return InvalidField("logits_at", value.dump(), "it is no list", remedy);
  std::vector<int64_t> positions;
  for (const json& item : value) {
    const bool fits =
        item.is_number_integer() &&
        (!item.is_number_unsigned() || item.get<uint64_t>() < static_cast<uint64_t>(prompt_tokens));
    int64_t position = fits ? item.get<int64_t>() : prompt_tokens;
    if (position < 0) position += prompt_tokens;
    if (position < 0 || position >= prompt_tokens ||
        (!positions.empty() && position <= positions.back())) {
      return InvalidField(absl::StrCat("logits_at[", positions.size(), "]"), item.dump(),
                          absl::StrCat("the prompt has ", prompt_tokens, " tokens"), remedy);
    }
    positions.push_back(position);
  }
  return positions;
}

absl::StatusOr<std::vector<int32_t>> ReadPrompt(const json& object, const LineReader& reader) {
  if (object.contains("ids") == object.contains("text")) {
    return InvalidField("ids", object.contains("ids") ? "given with text" : "absent",
                        "a line has a prompt, and one", "give either ids or text");
  }
  if (object.contains("text")) {
    const json& text = object["text"];
    if (!text.is_string()) {
      return InvalidField("text", text.dump(), "it is no string", "give the prompt's text");
    }
    if (reader.facts.text->tokenizer == nullptr) {
      return InvalidField("text", "given", "the model folder has no tokenizer.json", "give ids");
    }
    auto ids = reader.facts.text->tokenizer->Encode(text.get<std::string>());
    if (!ids.ok()) {
      return InvalidField("text", "given", std::string(ids.status().message()), "correct it");
    }
    return ids;
  }
  v1::TokenIds ids;
  const json wrapped = {{"ids", object["ids"]}};
  if (!object["ids"].is_array() ||
      !google::protobuf::util::JsonStringToMessage(wrapped.dump(), &ids).ok()) {
    return InvalidField("ids", object["ids"].dump(), "it is no list of token ids",
                        "give whole numbers of 0 and above");
  }
  return ReadTokens(ids, "ids", reader.capacity.num_tokens);
}

// The shortest digits that read back as the same f32.
void AppendFloat(float value, std::string* out) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value);
  out->append(digits, end.ptr);
}

json LogProbsJson(std::span<const TokenLogProb> logprobs) {
  json list = json::array();
  for (const TokenLogProb& logprob : logprobs) {
    json top = json::array();
    for (const auto& [id, value] : logprob.top) {
      top.push_back({{"token_id", id}, {"logprob", value}});
    }
    list.push_back({{"token_id", logprob.id},
                    {"logprob", logprob.logprob},
                    {"rank", logprob.rank},
                    {"top", std::move(top)}});
  }
  return list;
}

}  // namespace

absl::StatusOr<ParsedLine> ReadLine(const std::string& line,
                                    int64_t number,
                                    const LineReader& reader) {
  DS_ASSIGN_OR_RETURN(const json object, ParseLine(line));
  v1::CallOptions options;
  if (reader.facts.text->tokenizer == nullptr && object.contains("stop_strings")) {
    return InvalidField("stop_strings", "given", "the model folder has no tokenizer.json",
                        "use stop_token_ids");
  }
  for (const auto& [name, value] : object.items()) {
    if (name == "id" || name == "ids" || name == "text" || name == "logits_at") continue;
    DS_RETURN_IF_ERROR(SetField(name, value, &options));
  }
  DS_RETURN_IF_ERROR(CheckOptions(options, reader.capacity.num_tokens));
  if (options.n() > 1) {
    return UnsupportedField("n", absl::StrCat(options.n()),
                            "one answer a line here; write the line n times, each with a seed");
  }
  DS_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, ReadPrompt(object, reader));
  const ResolverDefaults defaults{.max_tokens = reader.default_max_tokens,
                                  .seed = reader.default_seed + static_cast<uint64_t>(number),
                                  .request_id = absl::StrCat("line-", number)};
  ParsedLine parsed;
  parsed.text = TextOptions(options);
  DS_ASSIGN_OR_RETURN(parsed.resolved, Resolve(options, prompt, reader.facts, defaults));
  DS_ASSIGN_OR_RETURN(parsed.request, ReadRequest(parsed.resolved, reader.info, reader.capacity));
  if (object.contains("logits_at")) {
    DS_ASSIGN_OR_RETURN(parsed.request.logits_at,
                        ReadPositions(object["logits_at"], static_cast<int64_t>(prompt.size())));
  }
  return parsed;
}

std::string WriteLine(const std::string& id,
                      const ParsedLine& line,
                      const LineResult& result,
                      const LineReader& reader) {
  size_t num_tokens = result.tokens.size();
  std::string text;
  bool stopped = result.ended.reason != FinishReason::kLength;
  const Tokenizer* tokenizer = reader.facts.text->tokenizer.get();
  if (tokenizer != nullptr) {
    AnswerText answer(*tokenizer, line.resolved, line.text);
    answer.Resume(line.resolved);
    v1::TokenEvent::Tokens tokens;
    tokens.set_first_index(answer.num_tokens());
    for (const int32_t one : result.tokens) tokens.add_ids(static_cast<uint32_t>(one));
    if (const auto part = answer.Add(tokens); part.ok()) {
      num_tokens = static_cast<size_t>(part->num_tokens);
      text = part->text + answer.Finish().text;
    }
    stopped |= answer.stop_string().has_value();
  }
  const std::vector<int32_t> tokens(result.tokens.begin(),
                                    result.tokens.begin() + static_cast<ptrdiff_t>(num_tokens));
  std::string out = absl::StrCat("{\"id\": ", id, ", \"tokens\": ", json(tokens).dump());
  if (tokenizer != nullptr) absl::StrAppend(&out, ", \"text\": ", json(text).dump());
  absl::StrAppend(&out, ", \"finish_reason\": ", stopped ? "\"stop\"" : "\"length\"");
  if (line.request.logprobs.has_value()) {
    const size_t count = std::min(num_tokens, result.logprobs.size());
    absl::StrAppend(
        &out, ", \"logprobs\": ", LogProbsJson(std::span(result.logprobs).first(count)).dump());
  }
  if (line.request.prompt_logprobs.has_value()) {
    absl::StrAppend(&out, ", \"prompt_logprobs\": ", LogProbsJson(result.prompt_logprobs).dump());
  }
  if (!line.request.logits_at.empty()) {
    out += ", \"logits\": [";
    for (size_t row = 0; row < result.logits.size(); ++row) {
      out += row == 0 ? "[" : ", [";
      for (size_t i = 0; i < result.logits[row].size(); ++i) {
        if (i > 0) out += ",";
        AppendFloat(result.logits[row][i], &out);
      }
      out += "]";
    }
    out += "]";
  }
  return out + "}";
}

}  // namespace deltaserve
