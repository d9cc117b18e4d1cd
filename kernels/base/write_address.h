#pragma once

// WriteAddress: says where a server is, as --address-file of every binary does.

#include <string>

#include "absl/status/status.h"

namespace deltaserve {

// The `path` that is standard output, which nothing else is written to: mpirun carries it to
// whoever started the process.
inline constexpr char kStandardOutput[] = "-";

// Writes `address` and a newline to `path`: the whole file or none, so that who waits for it never
// reads half an address. INVALID_ARGUMENT names --address-file and what would do. Any thread.
absl::Status WriteAddress(const std::string& path, const std::string& address);

}  // namespace deltaserve
