#include "router/text/tool_schema.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "router/text/ascii_text.h"
#include "router/text/client_json.h"
#include "router/text/json_text.h"
#include "router/text/python_literal.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;
using Kind = ParameterType::Kind;

bool StartsWithAny(std::string_view name, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [name](std::string_view prefix) { return name.starts_with(prefix); });
}

bool IsAny(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Kind KindOf(std::string_view name) {
  if (IsAny(name, {"string", "str", "text", "varchar", "char", "enum"})) return Kind::kText;
  if (StartsWithAny(name, {"int", "uint", "long", "short", "unsigned"})) return Kind::kInteger;
  if (StartsWithAny(name, {"num", "float"})) return Kind::kNumber;
  if (IsAny(name, {"boolean", "bool", "binary"})) return Kind::kBoolean;
  if (IsAny(name, {"object", "array", "arr"}) || StartsWithAny(name, {"dict", "list"})) {
    return Kind::kJson;
  }
  return Kind::kLiteral;
}

// Adds what a `type`, a name or a list of names, says; the first kind stays.
void AddType(const Json& type, std::optional<Kind>* kind, bool* nullable) {
  if (type.is_array()) {
    for (const Json& name : type) {
      if (name.is_string()) AddType(name, kind, nullable);
    }
    return;
  }
  if (!type.is_string()) return;
  const std::string name = AsciiLowerCase(StripAsciiSpace(type.get_ref<const std::string&>()));
  if (name == "null") {
    *nullable = true;
  } else if (!*kind) {
    *kind = KindOf(name);
  }
}

ParameterType TypeOfSchema(const Json& schema) {
  if (!schema.is_object()) return {};
  std::optional<Kind> kind;
  bool nullable = schema.contains("nullable") && schema["nullable"] == true;
  if (schema.contains("type")) {
    AddType(schema["type"], &kind, &nullable);
    // A parameter that can be nothing but null.
    if (!kind && nullable) kind = Kind::kLiteral;
  } else if (schema.contains("anyOf") && schema["anyOf"].is_array()) {
    for (const Json& option : schema["anyOf"]) {
      if (option.is_object() && option.contains("type")) AddType(option["type"], &kind, &nullable);
    }
  }
  return {kind.value_or(Kind::kText), nullable};
}

std::string Text(std::optional<std::string> converted, std::string_view raw) {
  return converted ? *std::move(converted) : JsonString(raw);
}

}  // namespace

bool IsNullText(std::string_view raw) {
  const std::string lower = AsciiLowerCase(raw.substr(0, 5));
  return lower == "null" || lower == "none";
}

std::string ArgumentJson(std::string_view raw, const ParameterType& type) {
  if ((type.nullable || type.kind != Kind::kText) && IsNullText(raw)) return "null";
  switch (type.kind) {
    case Kind::kText:
      return JsonString(raw);
    case Kind::kInteger:
      return Text(PythonIntToJson(raw), raw);
    case Kind::kNumber:
      return Text(PythonFloatToJson(raw), raw);
    case Kind::kBoolean:
      return AsciiLowerCase(raw.substr(0, 5)) == "true" ? "true" : "false";
    case Kind::kJson:
      if (auto json = NormalizeJson(raw)) return *std::move(json);
      return Text(PythonLiteralToJson(raw), raw);
    case Kind::kLiteral:
      return Text(PythonLiteralToJson(raw), raw);
  }
  return JsonString(raw);
}

absl::StatusOr<Json> ReadTools(std::span<const std::string> tools_json) {
  Json tools = Json::array();
  for (const std::string& text : tools_json) {
    const std::string field = absl::StrCat("tools_json[", tools.size(), "]");
    DS_ASSIGN_OR_RETURN(Json tool, ReadClientObject(text, {.field = field, .remedy = kToolRemedy}));
    tools.push_back(std::move(tool));
  }
  return tools;
}

absl::StatusOr<ToolSchema> ToolSchema::Read(const Json& tools, const std::string& field) {
  ToolSchema schema;
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string at = absl::StrCat(field, "[", i, "]");
    const Json& tool = tools[i];
    if (!tool.is_object()) {
      return InvalidField(at, DumpJson(tool), "it is no JSON object", kToolRemedy);
    }
    const bool wrapped = tool.contains("function") && tool["function"].is_object();
    const Json& function = wrapped ? tool["function"] : tool;
    const Json name = function.value("name", Json());
    if (!name.is_string() || name == "") {
      return InvalidField(absl::StrCat(at, wrapped ? ".function" : "", ".name"),
                          function.contains("name") ? DumpJson(name) : "absent",
                          "a tool has a name, a string", kToolRemedy);
    }
    Parameters parameters;
    const Json declared = function.value("parameters", Json());
    if (!declared.is_object() && !declared.is_null()) {
      return InvalidField(absl::StrCat(at, wrapped ? ".function" : "", ".parameters"),
                          DumpJson(declared), "it is no JSON object",
                          "send a JSON schema such as {\"type\": \"object\"}, or leave it out");
    }
    if (declared.is_object()) {
      const Json& properties = declared.contains("properties") ? declared["properties"] : declared;
      if (properties.is_object()) {
        for (const auto& [key, property] : properties.items()) {
          parameters.emplace(key, TypeOfSchema(property));
        }
      }
    }
    schema.tools_.emplace(name.get<std::string>(), std::move(parameters));
  }
  return schema;
}

absl::StatusOr<ToolSchema> ToolSchema::Parse(std::span<const std::string> tools_json) {
  DS_ASSIGN_OR_RETURN(const Json tools, ReadTools(tools_json));
  return Read(tools, "tools_json");
}

ParameterType ToolSchema::TypeOf(std::string_view tool, std::string_view parameter) const {
  const auto found_tool = tools_.find(tool);
  if (found_tool == tools_.end()) return {};
  const auto found = found_tool->second.find(parameter);
  return found == found_tool->second.end() ? ParameterType{} : found->second;
}

}  // namespace deltaserve
