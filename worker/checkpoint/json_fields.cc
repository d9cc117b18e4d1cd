#include "worker/checkpoint/json_fields.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace deltaserve {
namespace {

constexpr size_t kMostShown = 60;

bool IsIdentifier(const nlohmann::json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT32_MAX};
}

}  // namespace

std::string ShownJson(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMostShown) text = text.substr(0, kMostShown) + "...";
  return text;
}

const nlohmann::json* JsonFields::Find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool JsonFields::Has(const char* name) const { return Find(name) != nullptr; }

std::string JsonFields::Shown(const char* name) const {
  const auto* value = Find(name);
  return value == nullptr ? "absent" : ShownJson(*value);
}

void JsonFields::Refuse(const std::string& message) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(message);
}

void JsonFields::RefuseUnsupported(const std::string& message) {
  if (status_.ok()) status_ = absl::UnimplementedError(message);
}

void JsonFields::RefuseType(const char* name, const char* wanted) {
  Refuse(absl::StrCat(name, " is ", Shown(name), ": it must be ", wanted));
}

int64_t JsonFields::Int(const char* name, int64_t min, int64_t max) {
  if (!Has(name)) {
    Refuse(absl::StrCat(name, " is missing: config.json must state it"));
    return min;
  }
  return IntOr(name, min, max, min);
}

int64_t JsonFields::IntOr(const char* name, int64_t min, int64_t max, int64_t fallback) {
  const auto* value = Find(name);
  if (value == nullptr) return fallback;
  const bool fits =
      value->is_number_integer() &&
      !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(max));
  if (!fits || value->get<int64_t>() < min || value->get<int64_t>() > max) {
    RefuseType(name, absl::StrCat("a whole number from ", min, " to ", max).c_str());
    return fallback;
  }
  return value->get<int64_t>();
}

std::optional<double> JsonFields::PositiveNumber(const char* name) {
  const auto* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0) {
    RefuseType(name, "a number greater than 0");
    return std::nullopt;
  }
  return value->get<double>();
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const auto* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    RefuseType(name, "true or false");
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<std::string> JsonFields::Text(const char* name) {
  const auto* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    RefuseType(name, "a string");
    return std::nullopt;
  }
  return value->get<std::string>();
}

std::vector<int64_t> JsonFields::Ids(const char* name) {
  const auto* value = Find(name);
  if (value == nullptr) return {};
  if (IsIdentifier(*value)) return {value->get<int64_t>()};
  std::vector<int64_t> ids;
  if (value->is_array()) {
    for (const auto& entry : *value) {
      if (!IsIdentifier(entry)) break;
      ids.push_back(entry.get<int64_t>());
    }
    if (ids.size() == value->size()) return ids;
  }
  RefuseType(name, "a token id or a list of token ids");
  return {};
}

std::optional<std::vector<std::string>> JsonFields::Texts(const char* name) {
  const auto* value = Find(name);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> texts;
  if (value->is_array()) {
    for (const auto& entry : *value) {
      if (!entry.is_string()) break;
      texts.push_back(entry.get<std::string>());
    }
    if (texts.size() == value->size()) return texts;
  }
  RefuseType(name, "a list of strings");
  return std::nullopt;
}

}  // namespace deltaserve
