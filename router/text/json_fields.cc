#include "router/text/json_fields.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace deltaserve {
namespace {

constexpr size_t kLongestValue = 80;

const nlohmann::json& NullValue() {
  static const nlohmann::json& null = *new nlohmann::json();  // never destroyed
  return null;
}

}  // namespace

bool JsonField::Has(const std::string& key) const { return !Get(key).value().is_null(); }

JsonField JsonField::Get(const std::string& key) const {
  const std::string path = path_.ends_with(": ") ? path_ + key : path_ + "." + key;
  if (!value_->is_object()) return JsonField(NullValue(), path);
  const auto found = value_->find(key);
  return JsonField(found == value_->end() ? NullValue() : *found, path);
}

JsonField JsonField::At(size_t index) const {
  DS_CHECK(value_->is_array());
  DS_CHECK_LT(index, value_->size());
  return JsonField((*value_)[index], absl::StrCat(path_, "[", index, "]"));
}

absl::Status JsonField::ExpectObject() const {
  return value_->is_object() ? absl::OkStatus() : Invalid("an object is expected");
}

absl::Status JsonField::ExpectArray() const {
  return value_->is_array() ? absl::OkStatus() : Invalid("a list is expected");
}

absl::StatusOr<bool> JsonField::Bool() const {
  if (!value_->is_boolean()) return Invalid("true or false is expected");
  return value_->get<bool>();
}

absl::StatusOr<std::string> JsonField::String() const {
  if (!value_->is_string()) return Invalid("a string is expected");
  return value_->get<std::string>();
}

absl::StatusOr<int64_t> JsonField::Int(int64_t low, int64_t high) const {
  const std::string remedy =
      absl::StrCat("a whole number from ", low, " to ", high, " is expected");
  if (!value_->is_number_integer()) return Invalid(remedy);
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Invalid(remedy);
  }
  const auto number = value_->get<int64_t>();
  if (number < low || number > high) return Invalid(remedy);
  return number;
}

absl::StatusOr<double> JsonField::Number() const {
  if (!value_->is_number()) return Invalid("a number is expected");
  const auto number = value_->get<double>();
  if (!std::isfinite(number)) return Invalid("a finite number is expected");
  return number;
}

absl::Status JsonField::ExpectKeys(const std::vector<std::string_view>& known) const {
  for (const auto& [key, unused] : value_->items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Get(key).Unsupported("this field is not known here");
    }
  }
  return absl::OkStatus();
}

absl::Status JsonField::Invalid(std::string_view remedy) const {
  return absl::InvalidArgumentError(Describe(remedy));
}

absl::Status JsonField::Unsupported(std::string_view remedy) const {
  return absl::UnimplementedError(Describe(remedy));
}

std::string JsonField::Describe(std::string_view remedy) const {
  // Only scalars are shown whole: a vocabulary as text would be megabytes.
  std::string shown = value_->is_object()  ? "an object"
                      : value_->is_array() ? "a list"
                                           : value_->dump(-1, ' ', /*ensure_ascii=*/true);
  if (shown.size() > kLongestValue) shown = shown.substr(0, kLongestValue) + "...";
  return absl::StrCat(path_, " is ", shown, ": ", std::string(remedy));
}

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view bytes, const std::string& file) {
  nlohmann::json parsed = nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (parsed.is_discarded()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " (", bytes.size(), " bytes) is not JSON; copy the file again"));
  }
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(file, " is not a JSON object"));
  }
  return parsed;
}

}  // namespace deltaserve
