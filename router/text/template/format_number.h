#pragma once

// Numbers as Python writes and reads them. Pure functions.

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

std::string IntText(Int value);
// `value`, not negative, in base 2, 8, 10 or 16; lower case.
std::string IntDigits(Int value, int base);

// repr(float): the shortest digits that read back, such as 1e+16, 1.0, -0.0, nan.
std::string FloatText(double value);

// printf's %e, %f or %g (`kind`, either case) of `value` with `precision` digits; '#' keeps points
// and zeros.
std::string FloatDigits(double value, char kind, int precision, bool is_alternate);

// int(text, base): white space around, a sign, single underscores, the base's prefix; base 0 asks
// the prefix. nullopt: not a number. Errors: OutOfRange beyond 127 bits.
absl::StatusOr<std::optional<Int>> ParseInt(std::string_view text, int base);

// float(text); nullopt: not a number.
std::optional<double> ParseFloat(std::string_view text);

// int(value) of a finite number, towards zero. Errors: OutOfRange beyond 127 bits.
absl::StatusOr<Int> TruncateToInt(double value);

// round(value, digits): to even where two are as near, of the exact binary value.
double RoundDecimal(double value, int digits);

}  // namespace deltaserve::jinja
