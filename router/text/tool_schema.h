#pragma once

// What the tools of a request say of their parameters' types, and values of those types as JSON.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// What a client does about a tool that is none.
inline constexpr char kToolRemedy[] =
    "give one tool in each: {\"type\": \"function\", \"function\": {\"name\": ...}}";

// How the text of a parameter becomes a value: by the name of its type, as in vLLM's qwen3_coder
// parser (specification 7.7).
struct ParameterType {
  enum class Kind : uint8_t {
    kText,     // string, str, text, varchar, char, enum; no type; not in the schema
    kInteger,  // int*, uint*, long*, short*, unsigned*
    kNumber,   // num*, float*
    kBoolean,  // boolean, bool, binary
    kJson,     // object, array, arr, dict*, list*
    kLiteral,  // any other name
  };
  Kind kind = Kind::kText;
  bool nullable = false;  // "null" is among the types, or `nullable` is true

  friend bool operator==(const ParameterType&, const ParameterType&) = default;
};

// True where `raw` is null or None in any case.
bool IsNullText(std::string_view raw);

// The JSON of a whole value `raw`, UTF-8, without the newlines that surround it:
//   null or None     null, but for a kText that is not nullable
//   kText            the text
//   kInteger         as Python's int(), else the text
//   kNumber          as Python's float(), its spelling kept (NormalizeJson's rule), else the text
//   kBoolean         true where the text is "true" in any case, else false
//   kJson            JSON, else a Python literal, else the text
//   kLiteral         a Python literal, else the text
std::string ArgumentJson(std::string_view raw, const ParameterType& type);

// An array of the tools in `tools_json`, one JSON object in each text. Errors: those of
// ReadClientObject, naming tools_json[i].
absl::StatusOr<nlohmann::ordered_json> ReadTools(std::span<const std::string> tools_json);

// The types of the parameters of each tool. Immutable; any thread.
class ToolSchema {
 public:
  // Every parameter is text.
  ToolSchema() = default;

  // `tools`, an array: one object a tool, {"type": "function", "function": {"name", "parameters"}}
  // or the inner object alone. Types come from `parameters.properties` (from `parameters` where it
  // has none): from `type`, of a list the first that is not null; else of `anyOf` the first that
  // has a type that is not null. Of tools of one name the first counts. Errors: INVALID_FIELD
  // naming `field`[i] where it is no object, and the name where it has none.
  static absl::StatusOr<ToolSchema> Read(const nlohmann::ordered_json& tools,
                                         const std::string& field);

  // The same of ReadTools(tools_json).
  static absl::StatusOr<ToolSchema> Parse(std::span<const std::string> tools_json);

  // Text where tool or parameter is unknown.
  ParameterType TypeOf(std::string_view tool, std::string_view parameter) const;

  // True where a tool is called `tool`.
  bool Has(std::string_view tool) const { return tools_.find(tool) != tools_.end(); }

 private:
  using Parameters = std::map<std::string, ParameterType, std::less<>>;
  std::map<std::string, Parameters, std::less<>> tools_;
};

}  // namespace deltaserve
