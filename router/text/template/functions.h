#pragma once

// The functions that every template may call.

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// range, dict, namespace, raise_exception and strftime_now; a missing value for any other name.
// Errors: Unimplemented for the globals of jinja2 that chat templates do not use (cycler, ...).
absl::StatusOr<Value> FindGlobal(Runtime& runtime, std::string_view name);

// What raise_exception gives: InvalidArgument that carries `message`.
absl::Status RaisedError(std::string message);
std::optional<std::string> RaisedMessage(const absl::Status& status);

// namespace.name = value. Errors: InvalidArgument for a name that begins with '_'.
absl::Status SetNamespaceAttribute(Runtime& runtime,
                                   const Value& name_space,
                                   const std::string& name,
                                   const Value& value);

}  // namespace deltaserve::jinja
