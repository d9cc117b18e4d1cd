#include "tools/json_lines.h"

#include "absl/strings/str_cat.h"
#include "proto/error.h"
#include "router/text/client_json.h"

namespace deltaserve {

using Json = nlohmann::ordered_json;

// A line may hold a whole context of token ids.
constexpr size_t kMaxLineValues = 10'000'000;

// Lists and objects in an id, inside one another.
constexpr int kMaxIdDepth = 8;

std::string LineId(const std::string& line) {
  // Of the line's members only the id is built: the line may be one that ParseLine refuses.
  bool is_too_deep = false;
  const auto keeps = [&](int depth, Json::parse_event_t event, const Json& key) {
    if (event == Json::parse_event_t::key) return depth > 1 || key == "id";
    const bool begins =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    // Called for members that are not kept as well.
    if (begins && depth > kMaxIdDepth) is_too_deep = true;
    return !begins || depth <= kMaxIdDepth;
  };
  const Json object = Json::parse(line, keeps, false);
  if (!object.is_object() || !object.contains("id")) return "null";
  return is_too_deep && object["id"].is_structured() ? "null" : DumpJson(object["id"]);
}

absl::StatusOr<Json> ParseLine(const std::string& line) {
  return ReadClientObject(line, {.field = "line",
                                 .remedy = "write one JSON object a line",
                                 .members_are_fields = true,
                                 .max_values = kMaxLineValues});
}

std::string WriteErrorLine(const std::string& id, const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  const Json error = {{"code", v1::ErrorCode_Name(detail.code())},
                      {"field", detail.field()},
                      {"message", std::string(status.message())}};
  return absl::StrCat("{\"id\": ", id, ", \"error\": ", DumpJson(error), "}");
}

}  // namespace deltaserve
