#pragma once

// The tests of jinja2 3.1: value is name(arguments).

#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

using TestFunction = absl::StatusOr<bool> (*)(Runtime& runtime,
                                              const Value& value,
                                              const Arguments& arguments);

// Null where there is none of the name.
TestFunction FindTest(std::string_view name);

}  // namespace deltaserve::jinja
