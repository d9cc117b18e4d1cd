#include "router/text/template/format_number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr int kLeastPoint = -4;  // repr(float) has an exponent below 1e-4 and from 1e16 on
constexpr int kMostPoint = 16;

absl::Status TooLarge() {
  return absl::OutOfRangeError("an integer beyond 127 bits is not supported; use smaller numbers");
}

// `text` without white space around and, where single underscores stand between digits, without
// these; nullopt where an underscore stands elsewhere.
std::optional<std::string> PlainNumber(std::string_view text) {
  std::u32string points = ToCodePoints(text);
  while (!points.empty() && IsSpace(points.back())) points.pop_back();
  const auto first = std::find_if_not(points.begin(), points.end(), IsSpace);
  points.erase(points.begin(), first);
  std::string plain;
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i] >= 0x80) return std::nullopt;
    if (points[i] == '_') {
      const auto is_digit = [&](size_t at) {
        return at < points.size() && points[at] < 0x80 &&
               absl::ascii_isalnum(static_cast<unsigned char>(points[at]));
      };
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    plain.push_back(static_cast<char>(points[i]));
  }
  return plain;
}

}  // namespace

std::string IntDigits(Int value, int base) {
  std::string digits;
  do {
    digits.push_back("0123456789abcdef"[static_cast<size_t>(value % base)]);
    value /= base;
  } while (value != 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string IntText(Int value) {
  return value < 0 ? Cat("-", IntDigits(-value, 10)) : IntDigits(value, 10);
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific)
                       .ptr;
  std::string_view text(buffer.data(), static_cast<size_t>(end - buffer.data()));
  const bool is_negative = text.front() == '-';
  if (is_negative) text.remove_prefix(1);
  const size_t at_exponent = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(at_exponent + 1)).c_str());
  std::string digits(text.substr(0, 1));
  if (at_exponent > 2) digits.append(text.substr(2, at_exponent - 2));

  std::string result = is_negative ? "-" : "";
  const auto num_digits = static_cast<int>(digits.size());
  if (exponent < kLeastPoint || exponent >= kMostPoint) {
    result.push_back(digits[0]);
    if (num_digits > 1) CatTo(&result, ".", digits.substr(1));
    const int size = std::abs(exponent);
    CatTo(&result, "e", exponent < 0 ? "-" : "+", size < 10 ? "0" : "", size);
  } else if (exponent < 0) {
    CatTo(&result, "0.", std::string(static_cast<size_t>(-exponent - 1), '0'), digits);
  } else if (num_digits <= exponent + 1) {
    digits.append(static_cast<size_t>(exponent + 1 - num_digits), '0');
    CatTo(&result, digits, ".0");
  } else {
    digits.insert(static_cast<size_t>(exponent + 1), ".");
    result += digits;
  }
  return result;
}

std::string FloatDigits(double value, char kind, int precision, bool is_alternate) {
  if (!std::isfinite(value)) {
    std::string text = std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
    return absl::ascii_isupper(static_cast<unsigned char>(kind)) ? absl::AsciiStrToUpper(text)
                                                                 : text;
  }
  const std::string format = Cat("%", is_alternate ? "#" : "", ".*", std::string(1, kind));
  const int size = std::snprintf(nullptr, 0, format.c_str(), precision, value);
  std::string text(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), format.c_str(), precision, value);
  text.pop_back();
  return text;
}

absl::StatusOr<std::optional<Int>> ParseInt(std::string_view text, int base) {
  std::optional<std::string> plain = PlainNumber(text);
  if (!plain.has_value()) return std::nullopt;
  std::string_view rest = *plain;
  const bool is_negative = rest.starts_with("-");
  if (is_negative || rest.starts_with("+")) rest.remove_prefix(1);
  const std::string lower = absl::AsciiStrToLower(std::string(rest.substr(0, 2)));
  const int named = lower == "0x" ? 16 : lower == "0o" ? 8 : lower == "0b" ? 2 : 0;
  if (named != 0 && (base == 0 || base == named)) {
    rest.remove_prefix(2);
    base = named;
  } else if (base == 0) {
    base = 10;
    const bool is_zero = rest.find_first_not_of('0') == std::string_view::npos;
    if (rest.size() > 1 && rest.front() == '0' && !is_zero) return std::nullopt;
  }
  if (rest.empty()) return std::nullopt;
  Int value = 0;
  for (const char c : rest) {
    const auto byte = static_cast<unsigned char>(c);
    if (!absl::ascii_isalnum(byte)) return std::nullopt;
    const int digit = absl::ascii_isdigit(byte) ? c - '0' : absl::ascii_tolower(byte) - 'a' + 10;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      return TooLarge();
    }
  }
  return is_negative ? -value : value;
}

std::optional<double> ParseFloat(std::string_view text) {
  const std::optional<std::string> plain = PlainNumber(text);
  if (!plain.has_value() || plain->empty()) return std::nullopt;
  std::string_view rest = *plain;
  const bool is_negative = rest.front() == '-';
  if (is_negative || rest.front() == '+') rest.remove_prefix(1);
  const std::string lower = absl::AsciiStrToLower(std::string(rest));
  if (lower == "inf" || lower == "infinity") return is_negative ? -HUGE_VAL : HUGE_VAL;
  if (lower == "nan") return std::nan("");
  if (lower.find_first_not_of("0123456789.e+-") != std::string::npos || lower.empty() ||
      lower.find_first_of("0123456789") == std::string::npos || lower.front() == '+' ||
      lower.front() == '-') {
    return std::nullopt;
  }
  char* end = nullptr;
  const double value = std::strtod(lower.c_str(), &end);
  if (end != lower.c_str() + lower.size()) return std::nullopt;
  return is_negative ? -value : value;
}

absl::StatusOr<Int> TruncateToInt(double value) {
  if (std::abs(value) >= 0x1p126) return TooLarge();
  return static_cast<Int>(value);
}

double RoundDecimal(double value, int digits) {
  // No double has a digit further than this to either side of the point.
  constexpr int kFurthest = 340;
  if (!std::isfinite(value) || digits > kFurthest) return value;
  if (digits < -kFurthest) return std::copysign(0.0, value);
  if (digits >= 0) return std::strtod(FloatDigits(value, 'f', digits, false).c_str(), nullptr);
  // snprintf rounds the exact value half to even, but only right of the point.
  const std::string whole = FloatDigits(std::abs(value), 'f', kFurthest * 3 + 60, false);
  const size_t point = whole.find('.');
  const auto cut = static_cast<size_t>(-digits);
  if (cut > point) return std::copysign(0.0, value);
  std::string kept = whole.substr(0, point - cut);
  const std::string lost = whole.substr(point - cut, cut) + whole.substr(point + 1);
  const bool is_tie = lost[0] == '5' && lost.find_first_not_of('0', 1) == std::string::npos;
  const bool is_odd = !kept.empty() && (kept.back() - '0') % 2 == 1;
  const bool goes_up = is_tie ? is_odd : lost[0] >= '5';
  kept.insert(kept.begin(), '0');
  for (size_t i = kept.size(); goes_up && i-- > 0;) {
    if (kept[i] != '9') {
      ++kept[i];
      break;
    }
    kept[i] = '0';
  }
  return std::copysign(std::strtod(Cat(kept, "e", cut).c_str(), nullptr), value);
}

}  // namespace deltaserve::jinja
