#pragma once

// Reads typed fields of a JSON object and keeps the first refusal, so that a parser reads straight
// on.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// Parser's stack only. Once a field was refused every later read returns its fallback and the first
// refusal stays in status(). A null counts as absent.
class JsonFields {
 public:
  // `object` must be a JSON object and outlive this.
  explicit JsonFields(const nlohmann::json& object) : object_(object) {}

  bool Has(const char* name) const;

  // Integer in [min, max]; absent is refused.
  int64_t Int(const char* name, int64_t min, int64_t max);
  // The same; absent gives `fallback`.
  int64_t IntOr(const char* name, int64_t min, int64_t max, int64_t fallback);
  // Finite number greater than 0.
  std::optional<double> PositiveNumber(const char* name);
  std::optional<bool> Bool(const char* name);
  std::optional<std::string> Text(const char* name);
  // An integer >= 0 or a list of them; empty where absent.
  std::vector<int64_t> Ids(const char* name);
  // A list of strings; nullopt where absent.
  std::optional<std::vector<std::string>> Texts(const char* name);

  // Keeps INVALID_ARGUMENT or UNIMPLEMENTED with `message`, unless something was refused before.
  void Refuse(const std::string& message);
  void RefuseUnsupported(const std::string& message);

  // The value of a field as JSON text, for messages; "absent" where it is not there.
  std::string Shown(const char* name) const;

  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json* Find(const char* name) const;
  void RefuseType(const char* name, const char* wanted);

  const nlohmann::json& object_;
  absl::Status status_;
};

// JSON text of `value`, cut after 60 characters, for messages.
std::string ShownJson(const nlohmann::json& value);

}  // namespace deltaserve
