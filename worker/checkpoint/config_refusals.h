#pragma once

// What a config.json may ask for and this server does not have (spec 1.2 and 8), refused by name.

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace deltaserve {

// `root`: the whole file; `text`: its text_config, or the same object where the file is flat.
// UNIMPLEMENTED or INVALID_ARGUMENT: field, value and remedy.
absl::Status RefuseUnsupportedFields(const nlohmann::json& root, const nlohmann::json& text);

}  // namespace deltaserve
