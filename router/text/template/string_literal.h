#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace deltaserve::jinja {

// What stands between the quotes of a string literal, with Python's escapes resolved. An escape
// that Python does not know stays as it is. Errors: InvalidArgument for a broken one, Unimplemented
// for \N{...} and for surrogates, which no UTF-8 can hold.
absl::StatusOr<std::string> UnescapeLiteral(std::string_view text);

}  // namespace deltaserve::jinja
