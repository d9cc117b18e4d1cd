#include "tools/json_lines.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/client_json.h"

namespace deltaserve {

using Json = nlohmann::ordered_json;

// A line may hold a whole context of token ids.
constexpr size_t kMaxLineValues = 10'000'000;

std::string LineId(const std::string& line) {
  // Of the line's members only the id is built, and no list or object in it: the line may be one
  // that ParseLine refuses to build.
  const auto keeps = [](int depth, Json::parse_event_t event, const Json& key) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        return depth == 0;
      case Json::parse_event_t::key:
        return key == "id";
      default:
        return true;
    }
  };
  const Json object = Json::parse(line, keeps, false);
  if (!object.is_object() || !object.contains("id") || !object["id"].is_primitive()) return "null";
  return DumpJson(object["id"]);
}

absl::StatusOr<Json> ParseLine(const std::string& line) {
  DS_ASSIGN_OR_RETURN(Json object, ReadClientObject(line, {.field = "line",
                                                           .remedy = "write one JSON object a line",
                                                           .members_are_fields = true,
                                                           .max_values = kMaxLineValues}));
  if (object.contains("id") && object["id"].is_structured()) {
    return InvalidField("id", DumpJson(object["id"]), "it is no single value",
                        "give a string or a number");
  }
  return object;
}

std::string WriteErrorLine(const std::string& id, const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  const Json error = {{"code", v1::ErrorCode_Name(detail.code())},
                      {"field", detail.field()},
                      {"message", std::string(status.message())}};
  return absl::StrCat("{\"id\": ", id, ", \"error\": ", DumpJson(error), "}");
}

}  // namespace deltaserve
