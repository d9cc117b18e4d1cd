#pragma once

// printf-like and brace formatting of strings.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// format % arguments. Errors: InvalidArgument where Python raises, ResourceExhausted.
absl::StatusOr<Value> FormatPercent(Runtime& runtime, const Value& format, const Value& arguments);

// The methods str.format and str.format_map.
absl::StatusOr<Value> FormatBraces(Runtime& runtime, const Value& self, const Arguments& arguments);
absl::StatusOr<Value> FormatMapping(Runtime& runtime,
                                    const Value& self,
                                    const Arguments& arguments);

// The parts of a number or text that is to fill a width.
struct FieldLayout {
  std::string fill = " ";
  char align = '<';  // < > ^ or = (fill after the sign)
  Int width = 0;
};
// `sign` (and prefix) before `body`, filled to the width. Errors: ResourceExhausted.
absl::StatusOr<std::string> LayOut(Runtime& runtime,
                                   const FieldLayout& layout,
                                   std::string_view sign,
                                   std::string_view body);

// format(value, specification), the part after ':' in braces.
absl::StatusOr<std::string> FormatValue(Runtime& runtime,
                                        const Value& value,
                                        std::string_view specification);

// More digits than this are refused, in either kind of format.
inline constexpr int kMostDigits = 1000;

}  // namespace deltaserve::jinja
