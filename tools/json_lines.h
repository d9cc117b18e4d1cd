#pragma once

// What tools that read and write JSON lines have in common. Pure; any thread.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// The "id" of a line, for the line that answers it, also where the rest is bad: as JSON, "null"
// where there is none.
std::string LineId(const std::string& line);

// Errors: INVALID_FIELD naming "line" where it is no JSON object.
absl::StatusOr<nlohmann::ordered_json> ParseLine(const std::string& line);

// `value` as JSON on one line; what is not UTF-8 in it becomes U+FFFD.
std::string DumpJson(const nlohmann::ordered_json& value);

// {"id", "error": {"code", "field", "message"}}
std::string WriteErrorLine(const std::string& id, const absl::Status& status);

}  // namespace deltaserve
