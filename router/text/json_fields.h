#pragma once

// Reading JSON files of a checkpoint so that every error names file, field path and value.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// One value of a parsed file and its path, such as "tokenizer.json: model.dropout".
// Threads: any, it only reads. The JSON it points to must outlive it.
class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string path)
      : value_(&value), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }

  // True where this is an object whose `key` is present and not null.
  bool Has(const std::string& key) const;

  // The member `key`, or a field of null where it is absent. This must be an object.
  JsonField Get(const std::string& key) const;

  // Element `index` of this array.
  JsonField At(size_t index) const;

  // Errors: InvalidArgument unless the value is of the kind asked for.
  absl::Status ExpectObject() const;
  absl::Status ExpectArray() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<std::string> String() const;
  // A whole number from `low` to `high`.
  absl::StatusOr<int64_t> Int(int64_t low, int64_t high) const;
  // A finite number, whole or not.
  absl::StatusOr<double> Number() const;

  // Unimplemented unless every key of this object is in `known`.
  absl::Status ExpectKeys(const std::vector<std::string_view>& known) const;

  // InvalidArgument / Unimplemented: "PATH is VALUE: `remedy`", the value cut to a readable length.
  absl::Status Invalid(std::string_view remedy) const;
  absl::Status Unsupported(std::string_view remedy) const;

 private:
  std::string Describe(std::string_view remedy) const;

  const nlohmann::json* value_;
  std::string path_;
};

// The JSON object in `bytes`, the file called `file`. Errors: InvalidArgument naming the file.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view bytes, const std::string& file);

}  // namespace deltaserve
