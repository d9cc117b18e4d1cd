#pragma once

// Values as Python writes them.

#include <string>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// str(value): what printing writes. Errors: InvalidArgument for functions and generators, whose
// text in Python is an address; ResourceExhausted.
absl::Status AppendText(Runtime& runtime, const Value& value, Buffer* out);
absl::StatusOr<std::string> Text(Runtime& runtime, const Value& value);
// str(value) as a value; a string stays as it is.
absl::StatusOr<Value> TextValue(Runtime& runtime, const Value& value);

// repr(value).
absl::Status AppendRepr(Runtime& runtime, const Value& value, Buffer* out);
absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value);

// repr of a str: in single quotes unless only those are in it.
std::string QuoteText(std::string_view utf8);
// The same of its beginning, for messages.
std::string QuoteShort(std::string_view utf8);

}  // namespace deltaserve::jinja
