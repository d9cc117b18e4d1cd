#pragma once

// Files that a tool's flags name for its results.

#include <string>

#include "absl/status/status.h"

namespace deltaserve {

// Makes `text` the whole of the file `path`. Errors: InvalidArgument, which names `flag`.
absl::Status WriteOutput(const char* flag, const std::string& path, const std::string& text);

}  // namespace deltaserve
