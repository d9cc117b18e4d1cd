#include "tools/json_lines.h"

#include "absl/strings/str_cat.h"
#include "proto/error.h"

namespace deltaserve {

using Json = nlohmann::ordered_json;

std::string LineId(const std::string& line) {
  const Json object = Json::parse(line, nullptr, false);
  if (!object.is_object() || !object.contains("id")) return "null";
  return DumpJson(object["id"]);
}

absl::StatusOr<Json> ParseLine(const std::string& line) {
  Json object = Json::parse(line, nullptr, false);
  if (object.is_object()) return object;
  return InvalidField("line", line.substr(0, 40), "it is not a JSON object",
                      "write one JSON object a line");
}

std::string DumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string WriteErrorLine(const std::string& id, const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  const Json error = {{"code", v1::ErrorCode_Name(detail.code())},
                      {"field", detail.field()},
                      {"message", std::string(status.message())}};
  return absl::StrCat("{\"id\": ", id, ", \"error\": ", DumpJson(error), "}");
}

}  // namespace deltaserve
