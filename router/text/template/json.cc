#include "router/text/template/json.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/arguments.h"
#include "router/text/template/cat.h"
#include "router/text/template/format_number.h"
#include "router/text/template/operators.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

std::string QuoteJson(std::string_view utf8, bool is_ascii) {
  std::string text = "\"";
  const auto put_escape = [&text](char32_t unit) {
    absl::StrAppendFormat(&text, "\\u%04x", static_cast<unsigned>(unit));
  };
  for (const char32_t c : ToCodePoints(utf8)) {
    if (c == '"' || c == '\\') {
      text.push_back('\\');
      text.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\r') {
      text += "\\r";
    } else if (c == '\t') {
      text += "\\t";
    } else if (c == '\f') {
      text += "\\f";
    } else if (c == '\b') {
      text += "\\b";
    } else if (c < 0x20) {
      put_escape(c);
    } else if (!is_ascii || c < 0x7F) {
      AppendUtf8(c, &text);
    } else if (c < 0x10000) {
      put_escape(c);
    } else {
      put_escape(0xD800 + ((c - 0x10000) >> 10));
      put_escape(0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }
  text.push_back('"');
  return text;
}

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return FloatText(value);
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style, Buffer* out)
      : runtime_(runtime), style_(style), out_(out) {}

  absl::Status Write(const Value& value);

 private:
  absl::Status WriteItems(const std::vector<Value>& items);
  absl::Status WriteDict(const DictObject& dict);
  absl::Status WriteKey(const Value& key);
  // What stands before the first item, between two, and after the last.
  absl::Status NewLine();
  absl::Status Separate(bool is_first);

  Runtime& runtime_;
  const JsonStyle& style_;
  Buffer* const out_;
  int level_ = 0;
};

absl::Status JsonWriter::NewLine() {
  if (!style_.indent.has_value()) return absl::OkStatus();
  DS_RETURN_IF_ERROR(out_->Append("\n"));
  for (int i = 0; i < level_; ++i) DS_RETURN_IF_ERROR(out_->Append(*style_.indent));
  return absl::OkStatus();
}

absl::Status JsonWriter::Separate(bool is_first) {
  if (!is_first) DS_RETURN_IF_ERROR(out_->Append(style_.item_separator));
  return NewLine();
}

absl::Status JsonWriter::WriteItems(const std::vector<Value>& items) {
  if (items.empty()) return out_->Append("[]");
  DS_RETURN_IF_ERROR(out_->Append("["));
  ++level_;
  for (size_t i = 0; i < items.size(); ++i) {
    DS_RETURN_IF_ERROR(Separate(i == 0));
    DS_RETURN_IF_ERROR(Write(items[i]));
  }
  --level_;
  DS_RETURN_IF_ERROR(NewLine());
  return out_->Append("]");
}

absl::Status JsonWriter::WriteKey(const Value& key) {
  switch (key.type()) {
    case Type::kString:
      DS_RETURN_IF_ERROR(runtime_.CheckRoom(key.text().size() * 6));
      return out_->Append(QuoteJson(key.text(), style_.is_ascii));
    case Type::kNone:
      return out_->Append("\"null\"");
    case Type::kBool:
      return out_->Append(key.bool_value() ? "\"true\"" : "\"false\"");
    case Type::kInt:
      return out_->Append(Cat("\"", IntText(key.int_value()), "\""));
    case Type::kFloat:
      return out_->Append(Cat("\"", JsonFloat(key.float_value()), "\""));
    default:
      return Wrong("keys must be str, int, float, bool or None, not ", TypeName(key));
  }
}

absl::Status JsonWriter::WriteDict(const DictObject& dict) {
  if (dict.entries.empty()) return out_->Append("{}");
  std::vector<Value> keys;
  for (const auto& entry : dict.entries) keys.push_back(entry.first);
  if (style_.is_sorted) {
    const std::vector<Value> unsorted = keys;
    DS_RETURN_IF_ERROR(SortByKeys(runtime_, unsorted, false, &keys));
  }
  DS_RETURN_IF_ERROR(out_->Append("{"));
  ++level_;
  bool is_first = true;
  for (const Value& key : keys) {
    DS_RETURN_IF_ERROR(Separate(std::exchange(is_first, false)));
    DS_RETURN_IF_ERROR(WriteKey(key));
    DS_RETURN_IF_ERROR(out_->Append(style_.key_separator));
    DS_RETURN_IF_ERROR(Write(*dict.Find(key)));
  }
  --level_;
  DS_RETURN_IF_ERROR(NewLine());
  return out_->Append("}");
}

absl::Status JsonWriter::Write(const Value& value) {
  const DepthScope depth(&runtime_);
  DS_RETURN_IF_ERROR(depth.Check());
  DS_RETURN_IF_ERROR(runtime_.Step());
  switch (value.type()) {
    case Type::kNone:
      return out_->Append("null");
    case Type::kBool:
      return out_->Append(value.bool_value() ? "true" : "false");
    case Type::kInt:
      return out_->Append(IntText(value.int_value()));
    case Type::kFloat:
      return out_->Append(JsonFloat(value.float_value()));
    case Type::kString:
      DS_RETURN_IF_ERROR(runtime_.CheckRoom(value.text().size() * 6));
      return out_->Append(QuoteJson(value.text(), style_.is_ascii));
    case Type::kList:
    case Type::kTuple:
      return WriteItems(value.items());
    case Type::kDict:
      return WriteDict(value.dict());
    default:
      return Wrong("Object of type ", TypeName(value), " is not JSON serializable");
  }
}

// The separators argument: two strings.
absl::Status ReadSeparators(const Value& value, JsonStyle* style) {
  if (!value.IsSequence() || value.items().size() != 2 || !value.items()[0].IsString() ||
      !value.items()[1].IsString()) {
    return Wrong("tojson: separators must be two strings, such as (',', ':')");
  }
  style->item_separator = value.items()[0].text();
  style->key_separator = value.items()[1].text();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Value> FromJson(Runtime& runtime, const nlohmann::ordered_json& json) {
  const DepthScope depth(&runtime);
  DS_RETURN_IF_ERROR(depth.Check());
  DS_RETURN_IF_ERROR(runtime.Step());
  const auto text = [&runtime](const std::string& bytes) -> absl::StatusOr<Value> {
    if (const std::optional<size_t> at = FindInvalidUtf8(bytes); at.has_value()) {
      return Wrong("a string of the variables is not UTF-8 at byte ", *at);
    }
    return runtime.String(bytes);
  };
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::null:
      return Value::None();
    case nlohmann::ordered_json::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_integer:
      return Value::Integer(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_unsigned:
      return Value::Integer(json.get<uint64_t>());
    case nlohmann::ordered_json::value_t::number_float:
      return Value::Float(json.get<double>());
    case nlohmann::ordered_json::value_t::string:
      return text(json.get_ref<const std::string&>());
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& element : json) {
        DS_ASSIGN_OR_RETURN(Value item, FromJson(runtime, element));
        items.push_back(std::move(item));
      }
      return runtime.List(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      auto dict = std::make_shared<DictObject>();
      dict->entries.reserve(json.size());
      for (const auto& [name, element] : json.items()) {
        DS_ASSIGN_OR_RETURN(const Value key, text(name));
        DS_ASSIGN_OR_RETURN(Value item, FromJson(runtime, element));
        dict->Set(key, std::move(item));
      }
      return runtime.Dict(std::move(dict));
    }
    default:
      return Wrong("the variables hold a ", json.type_name(), ", which JSON has not");
  }
}

absl::Status AppendJson(Runtime& runtime, const Value& value, const JsonStyle& style, Buffer* out) {
  return JsonWriter(runtime, style, out).Write(value);
}

absl::StatusOr<Value> ToJson(Runtime& runtime, const Value& value, const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(
      const std::vector<Value> bound,
      Bind("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0));
  JsonStyle style;
  style.is_ascii = Truth(bound[0]);
  style.is_sorted = Truth(bound[3]);
  if (const Value& indent = bound[1]; !indent.IsMissing() && !indent.IsNone()) {
    if (indent.IsString()) {
      style.indent = indent.text();
    } else if (indent.IsIntegral()) {
      DS_ASSIGN_OR_RETURN(style.indent, Filling(runtime, " ", indent.int_value()));
    } else {
      return Wrong("tojson: indent must be a number or a string, not ", TypeName(indent));
    }
    style.item_separator = std::string(",");
  }
  if (!bound[2].IsMissing() && !bound[2].IsNone()) {
    DS_RETURN_IF_ERROR(ReadSeparators(bound[2], &style));
  }
  Buffer buffer(&runtime);
  DS_RETURN_IF_ERROR(AppendJson(runtime, value, style, &buffer));
  return runtime.String(buffer.Take());
}

}  // namespace deltaserve::jinja
