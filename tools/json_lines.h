#pragma once

// What tools that read and write JSON lines have in common. Pure; any thread.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// The "id" of a line, for the line that answers it, also where the rest is refused: as JSON, "null"
// where there is none, or one of many lists inside one another.
std::string LineId(const std::string& line);

// Errors: those of ReadClientObject, for the field "line" and those in it.
absl::StatusOr<nlohmann::ordered_json> ParseLine(const std::string& line);

// {"id", "error": {"code", "field", "message"}}
std::string WriteErrorLine(const std::string& id, const absl::Status& status);

}  // namespace deltaserve
