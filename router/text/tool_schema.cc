#include "router/text/tool_schema.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "router/text/ascii_text.h"
#include "router/text/json_text.h"
#include "router/text/python_literal.h"

namespace deltaserve {
namespace {

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
void AddType(const nlohmann::json& type, std::optional<Kind>* kind, bool* nullable) {
  if (type.is_array()) {
    for (const nlohmann::json& name : type) {
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

ParameterType TypeOfSchema(const nlohmann::json& schema) {
  if (!schema.is_object()) return {};
  std::optional<Kind> kind;
  bool nullable = schema.contains("nullable") && schema["nullable"] == true;
  if (schema.contains("type")) {
    AddType(schema["type"], &kind, &nullable);
    // A parameter that can be nothing but null.
    if (!kind && nullable) kind = Kind::kLiteral;
  } else if (schema.contains("anyOf") && schema["anyOf"].is_array()) {
    for (const nlohmann::json& option : schema["anyOf"]) {
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

absl::StatusOr<ToolSchema> ToolSchema::Parse(std::span<const std::string> tools_json) {
  ToolSchema schema;
  for (size_t i = 0; i < tools_json.size(); ++i) {
    const std::string field = absl::StrCat("tools_json[", i, "]");
    const nlohmann::json parsed = nlohmann::json::parse(tools_json[i], nullptr, false);
    if (!parsed.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat(field,
                       " is not a JSON object: send one tool in each, such as {\"type\": "
                       "\"function\", \"function\": {\"name\": ...}}"));
    }
    const bool wrapped = parsed.contains("function") && parsed["function"].is_object();
    const nlohmann::json& function = wrapped ? parsed["function"] : parsed;
    if (!function.contains("name") || !function["name"].is_string() ||
        function["name"].get_ref<const std::string&>().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(field, wrapped ? ".function" : "",
                                                     ".name is missing: a string is expected"));
    }
    Parameters parameters;
    if (function.contains("parameters") && function["parameters"].is_object()) {
      const nlohmann::json& declared = function["parameters"];
      const nlohmann::json& properties =
          declared.contains("properties") ? declared["properties"] : declared;
      if (properties.is_object()) {
        for (const auto& [name, property] : properties.items()) {
          parameters.emplace(name, TypeOfSchema(property));
        }
      }
    }
    schema.tools_.emplace(function["name"].get<std::string>(), std::move(parameters));
  }
  return schema;
}

ParameterType ToolSchema::TypeOf(std::string_view tool, std::string_view parameter) const {
  const auto found_tool = tools_.find(tool);
  if (found_tool == tools_.end()) return {};
  const auto found = found_tool->second.find(parameter);
  return found == found_tool->second.end() ? ParameterType{} : found->second;
}

}  // namespace deltaserve
