#pragma once

// The filters of jinja2 3.1, without those that format for the web (urlize, xmlattr, ...).

#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// value | name(arguments). Errors: as operators.h.
using FilterFunction = absl::StatusOr<Value> (*)(Runtime& runtime,
                                                 const Value& value,
                                                 const Arguments& arguments);

// Null where there is none of the name.
FilterFunction FindFilter(std::string_view name);

// True for filters of jinja2 that FindFilter leaves out on purpose.
bool IsUnsupportedFilter(std::string_view name);

}  // namespace deltaserve::jinja
