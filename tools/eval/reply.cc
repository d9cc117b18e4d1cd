#include "tools/eval/reply.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/client_json.h"
#include "tools/json_lines.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<ReplyEnd, const char*> kEnds[] = {{ReplyEnd::kStop, "stop"},
                                                      {ReplyEnd::kLength, "length"},
                                                      {ReplyEnd::kOther, "other"},
                                                      {ReplyEnd::kFailed, "failed"}};

absl::StatusOr<std::vector<uint32_t>> IdsOf(const Json& json, const char* name) {
  std::vector<uint32_t> ids;
  const Json values = json.value(name, Json());
  bool good = values.is_array();
  for (const Json& value : values) {
    good = good && value.is_number_unsigned();
    if (good) ids.push_back(value.get<uint32_t>());
  }
  if (good) return ids;
  return InvalidField(name, DumpJson(values), "it is not what is expected",
                      "give a list of token ids");
}

}  // namespace

std::string ReplyLine(const Reply& reply) {
  Json calls = Json::array();
  for (const ToolUse& call : reply.calls) {
    calls.push_back({{"name", call.name}, {"arguments", call.arguments}});
  }
  Json json = {{"id", reply.id},
               {"content", reply.content},
               {"reasoning", reply.reasoning},
               {"tool_calls", std::move(calls)}};
  for (const auto& [end, name] : kEnds) {
    if (reply.end == end) json["end"] = name;
  }
  json["prompt"] = reply.prompt;
  json["tokens"] = reply.tokens;
  if (!reply.error.empty()) json["error"] = reply.error;
  return DumpJson(json);
}

absl::StatusOr<Reply> ParseReply(const std::string& line) {
  DS_ASSIGN_OR_RETURN(const Json json, ParseLine(line));
  Reply reply;
  const Json id = json.value("id", Json());
  if (!id.is_string()) {
    return InvalidField("id", DumpJson(id), "it is no string", "give the question's id");
  }
  reply.id = id.get<std::string>();
  const Json given = json.value("end", Json());
  bool known = false;
  for (const auto& [end, name] : kEnds) {
    if (given != name) continue;
    reply.end = end;
    known = true;
  }
  if (!known) {
    return InvalidField("end", DumpJson(given), "it is no end of an answer",
                        "give stop, length, other or failed");
  }
  DS_ASSIGN_OR_RETURN(reply.prompt, IdsOf(json, "prompt"));
  DS_ASSIGN_OR_RETURN(reply.tokens, IdsOf(json, "tokens"));
  return reply;
}

absl::StatusOr<std::vector<Reply>> ReadReplies(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--against is ", path, ": no file"));
  std::vector<Reply> replies;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    absl::StatusOr<Reply> reply = ParseReply(line);
    if (!reply.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " line ", number, ": ", reply.status().message()));
    }
    replies.push_back(*std::move(reply));
  }
  return replies;
}

}  // namespace deltaserve
