#pragma once

// Arguments of a call, sorted to the names of a function's parameters.

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// One value for each of `names`, missing where none is given. A name "" takes no keyword. Errors:
// InvalidArgument for too many, unknown or doubled arguments, and where one of the first
// `num_required` is missing.
absl::StatusOr<std::vector<Value>> Bind(std::string_view function,
                                        const Arguments& arguments,
                                        const std::vector<std::string_view>& names,
                                        size_t num_required);

// An argument as a whole number; `otherwise` where it is missing or, with `none_counts`, None.
absl::StatusOr<Int> IntArgument(std::string_view function,
                                const Value& value,
                                Int otherwise,
                                bool none_counts = false);

// InvalidArgument unless the argument is a string.
absl::Status ExpectString(std::string_view function, const Value& value);

}  // namespace deltaserve::jinja
