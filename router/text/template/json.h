#pragma once

// JSON in and out, as Python's json does it.

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// Errors: InvalidArgument for text that is not UTF-8, ResourceExhausted.
absl::StatusOr<Value> FromJson(Runtime& runtime, const nlohmann::ordered_json& json);

struct JsonStyle {
  bool is_ascii = false;              // ensure_ascii
  std::optional<std::string> indent;  // of one level; nullopt: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool is_sorted = false;  // sort_keys
};

// json.dumps(value). Errors: InvalidArgument for what JSON has not, ResourceExhausted.
absl::Status AppendJson(Runtime& runtime, const Value& value, const JsonStyle& style, Buffer* out);

// The filter tojson as transformers has it: (value, ensure_ascii, indent, separators, sort_keys).
absl::StatusOr<Value> ToJson(Runtime& runtime, const Value& value, const Arguments& arguments);

}  // namespace deltaserve::jinja
