// str.format (string_format.h): fields, conversions and format specifications.

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/arguments.h"
#include "router/text/template/cat.h"
#include "router/text/template/format_number.h"
#include "router/text/template/lookups.h"
#include "router/text/template/nesting.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/string_format.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr int kMostSpecifications = 2;  // a field inside the specification of a field, no deeper

// [[fill]align][sign][#][0][width][,|_][.precision][type]
struct Specification {
  std::optional<std::string> fill;
  char align = 0;  // 0: what the type prefers
  char sign = '-';
  bool is_alternate = false;
  Int width = 0;
  char grouping = 0;
  std::optional<Int> precision;
  char type = 0;
};

absl::StatusOr<Specification> ParseSpecification(std::string_view text) {
  Specification spec;
  const std::u32string points = ToCodePoints(text);
  size_t at = 0;
  const auto peek = [&](size_t i) { return i < points.size() ? points[i] : U'\0'; };
  const auto is_align = [](char32_t c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const auto number = [&]() -> std::optional<Int> {
    if (peek(at) < '0' || peek(at) > '9') return std::nullopt;
    Int value = 0;
    for (; peek(at) >= '0' && peek(at) <= '9'; ++at) {
      value = std::min<Int>(value * 10 + static_cast<Int>(peek(at) - '0'), INT32_MAX);
    }
    return value;
  };
  if (points.size() >= 2 && is_align(points[1])) {
    spec.fill = ToUtf8(std::u32string_view(points).substr(0, 1));
    spec.align = static_cast<char>(points[1]);
    at = 2;
  } else if (is_align(peek(0))) {
    spec.align = static_cast<char>(points[0]);
    at = 1;
  }
  if (peek(at) == '+' || peek(at) == '-' || peek(at) == ' ') {
    spec.sign = static_cast<char>(points[at++]);
  }
  if (peek(at) == '#') {
    spec.is_alternate = true;
    ++at;
  }
  if (peek(at) == '0' && !spec.fill.has_value()) {
    spec.fill = "0";
    if (spec.align == 0) spec.align = '=';
    ++at;
  }
  spec.width = number().value_or(0);
  if (peek(at) == ',' || peek(at) == '_') spec.grouping = static_cast<char>(points[at++]);
  if (peek(at) == '.') {
    ++at;
    spec.precision = number();
    if (!spec.precision.has_value()) return Wrong("Format specifier missing precision");
    if (*spec.precision > kMostDigits)
      return Wrong("a precision of more than ", kMostDigits, " digits");
  }
  if (at < points.size() && points[at] < 0x80) spec.type = static_cast<char>(points[at++]);
  if (at != points.size()) return Wrong("Invalid format specifier '", text, "'");
  return spec;
}

// Separators between groups of digits in the whole part.
std::string Grouped(std::string_view digits, char separator, size_t size) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string text;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % size == 0) text.push_back(separator);
    text.push_back(digits[i]);
  }
  return text.append(digits.substr(whole));
}

std::string_view SignOf(const Specification& spec, bool is_negative) {
  if (is_negative) return "-";
  return spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
}

FieldLayout LayoutOf(const Specification& spec, char preferred) {
  return {spec.fill.value_or(" "), spec.align == 0 ? preferred : spec.align, spec.width};
}

absl::Status UnknownCode(const Specification& spec, const Value& value) {
  return Wrong("Unknown format code '", std::string(1, spec.type), "' for object of type '",
               TypeName(value), "'");
}

absl::StatusOr<std::string> FormatString(Runtime& runtime,
                                         const Specification& spec,
                                         const Value& value,
                                         std::string_view text) {
  if (spec.type != 0 && spec.type != 's') return UnknownCode(spec, value);
  if (spec.align == '=' || spec.sign != '-' || spec.is_alternate || spec.grouping != 0) {
    return Wrong("a string's format specifier takes no sign, '#', '=' or grouping");
  }
  std::u32string points;
  DS_ASSIGN_OR_RETURN(points, CodePoints(runtime, text));
  if (spec.precision.has_value() && *spec.precision < static_cast<Int>(points.size())) {
    points.resize(static_cast<size_t>(*spec.precision));
  }
  return LayOut(runtime, LayoutOf(spec, '<'), "", ToUtf8(points));
}

absl::StatusOr<std::string> FormatInteger(Runtime& runtime,
                                          const Specification& spec,
                                          const Value& value) {
  if (spec.precision.has_value()) {
    return Wrong("Precision not allowed in integer format specifier");
  }
  const Int number = value.int_value();
  if (spec.type == 'c') {
    if (number < 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
      return Wrong("%c arg not in range(0x110000)");
    }
    std::string text;
    AppendUtf8(static_cast<char32_t>(number), &text);
    return LayOut(runtime, LayoutOf(spec, '<'), "", text);
  }
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(spec.type));
  int base = 10;
  if (lower == 'x') base = 16;
  if (spec.type == 'o') base = 8;
  if (spec.type == 'b') base = 2;
  if (base == 10 && spec.type != 0 && spec.type != 'd' && spec.type != 'n') {
    return UnknownCode(spec, value);
  }
  std::string digits = IntDigits(number < 0 ? -number : number, base);
  if (spec.grouping == ',' && base != 10)
    return Wrong("Cannot specify ',' with '", std::string(1, spec.type), "'.");
  if (spec.grouping != 0) digits = Grouped(digits, spec.grouping, base == 10 ? 3 : 4);
  std::string sign(SignOf(spec, number < 0));
  if (spec.is_alternate && base != 10) CatTo(&sign, "0", std::string(1, lower));
  if (spec.type == 'X') {
    digits = absl::AsciiStrToUpper(digits);
    sign = absl::AsciiStrToUpper(sign);
  }
  if (spec.grouping != 0 && spec.align == '=' && spec.fill == "0") {
    return Wrong("zero padding with grouping is not supported");
  }
  return LayOut(runtime, LayoutOf(spec, '>'), sign, digits);
}

absl::StatusOr<std::string> FormatFloat(Runtime& runtime,
                                        const Specification& spec,
                                        const Value& value) {
  const double number = value.AsDouble();
  const double size = std::abs(number);
  const auto precision = static_cast<int>(spec.precision.value_or(6));
  std::string digits;
  switch (spec.type) {
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      digits = FloatDigits(size, spec.type, precision, spec.is_alternate);
      break;
    case 'n':
      digits = FloatDigits(size, 'g', precision, spec.is_alternate);
      break;
    case '%':
      digits = FloatDigits(size * 100, 'f', precision, spec.is_alternate) + "%";
      break;
    case 0:
      if (!spec.precision.has_value()) {
        digits = FloatText(size);
        break;
      }
      // Like g, but with a digit after the point.
      digits = FloatDigits(size, 'g', std::max(precision, 1), false);
      if (digits.find_first_of(".en") == std::string::npos) {
        if (static_cast<int>(digits.size()) >= std::max(precision, 1)) {
          digits = FloatDigits(size, 'e', std::max(precision, 1) - 1, false);
          const size_t exponent = digits.find('e');
          size_t end = digits.substr(0, exponent).find_last_not_of('0') + 1;
          if (digits.find('.') == std::string::npos) end = exponent;
          if (end > 0 && digits[end - 1] == '.') --end;
          digits = digits.substr(0, end) + digits.substr(exponent);
        } else {
          digits += ".0";
        }
      }
      break;
    default:
      return UnknownCode(spec, value);
  }
  if (spec.grouping != 0) {
    if (spec.align == '=' && spec.fill == "0") {
      return Wrong("zero padding with grouping is not supported");
    }
    digits = Grouped(digits, spec.grouping, 3);
  }
  return LayOut(runtime, LayoutOf(spec, '>'),
                SignOf(spec, std::signbit(number) && !std::isnan(number)), digits);
}

// One walk through a format string.
class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments, bool is_safe)
      : runtime_(runtime), arguments_(arguments), is_safe_(is_safe) {}

  absl::Status Format(std::string_view text, int level, Buffer* out);

 private:
  absl::Status Field(std::string_view field, int level, Buffer* out);
  absl::StatusOr<Value> Lookup(std::string_view path);
  absl::StatusOr<Value> First(std::string_view name);
  absl::StatusOr<std::string> Converted(const Value& value,
                                        char conversion,
                                        std::string_view specification);

  Runtime& runtime_;
  const Arguments& arguments_;
  const bool is_safe_;
  size_t next_ = 0;
  enum class Numbering : uint8_t { kUnknown, kAutomatic, kManual } numbering_ = Numbering::kUnknown;
};

absl::StatusOr<Value> BraceFormatter::First(std::string_view name) {
  const bool is_number =
      std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!is_number) {
    DS_RETURN_IF_ERROR(runtime_.Step(static_cast<int64_t>(arguments_.keywords.size() / 16 + 1)));
    for (const auto& [key, value] : arguments_.keywords) {
      if (key == name) return value;
    }
    return Wrong("the format's field ", QuoteShort(name), " is not given");
  }
  const Numbering kind = name.empty() ? Numbering::kAutomatic : Numbering::kManual;
  if (numbering_ != Numbering::kUnknown && numbering_ != kind) {
    return Wrong("cannot switch between automatic and manual field numbering");
  }
  numbering_ = kind;
  const size_t index = name.empty()      ? next_++
                       : name.size() > 9 ? SIZE_MAX
                                         : static_cast<size_t>(std::stoul(std::string(name)));
  if (index >= arguments_.positional.size()) {
    return Wrong("Replacement index ", index, " out of range for positional args tuple");
  }
  return arguments_.positional[index];
}

absl::StatusOr<Value> BraceFormatter::Lookup(std::string_view path) {
  size_t at = std::min(path.find_first_of(".["), path.size());
  DS_ASSIGN_OR_RETURN(Value value, First(path.substr(0, at)));
  while (at < path.size()) {
    if (path[at] == '.') {
      const size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
      if (end == at + 1) return Wrong("Empty attribute in format string");
      DS_ASSIGN_OR_RETURN(
          value, GetAttribute(runtime_, value, std::string(path.substr(at + 1, end - at - 1))));
      at = end;
      continue;
    }
    if (path[at] != '[') return Wrong("Only '.' or '[' may follow ']' in format field specifier");
    const size_t end = path.find(']', at);
    if (end == std::string_view::npos) return Wrong("Missing ']' in format string");
    const std::string_view key = path.substr(at + 1, end - at - 1);
    if (key.empty()) return Wrong("Empty attribute in format string");
    const bool is_number = key.size() < 18 && std::all_of(key.begin(), key.end(), [](char c) {
                             return c >= '0' && c <= '9';
                           });
    const Value item = is_number ? Value::Integer(std::stoll(std::string(key)))
                                 : Value::Constant(std::string(key));
    DS_ASSIGN_OR_RETURN(value, GetItem(runtime_, value, item));
    at = end + 1;
  }
  return value;
}

absl::StatusOr<std::string> BraceFormatter::Converted(const Value& value,
                                                      char conversion,
                                                      std::string_view specification) {
  if (conversion == 0) {
    if (is_safe_ && value.IsSafe()) {
      if (!specification.empty()) return Wrong("Unsupported format specification for Markup.");
      return value.text();
    }
    DS_ASSIGN_OR_RETURN(std::string text, FormatValue(runtime_, value, specification));
    return is_safe_ ? EscapeHtml(text) : text;
  }
  std::string text;
  if (conversion == 's') {
    DS_ASSIGN_OR_RETURN(text, Text(runtime_, value));
  } else if (conversion == 'r') {
    DS_ASSIGN_OR_RETURN(text, Repr(runtime_, value));
  } else {
    return Wrong("Unknown conversion specifier ", std::string(1, conversion));
  }
  DS_ASSIGN_OR_RETURN(const Specification spec, ParseSpecification(specification));
  DS_ASSIGN_OR_RETURN(text, FormatString(runtime_, spec, value, text));
  return is_safe_ ? EscapeHtml(text) : text;
}

absl::Status BraceFormatter::Field(std::string_view field, int level, Buffer* out) {
  size_t end = 0;
  bool in_brackets = false;
  for (; end < field.size(); ++end) {
    if (field[end] == '[') in_brackets = true;
    if (field[end] == ']') in_brackets = false;
    if (!in_brackets && (field[end] == '!' || field[end] == ':')) break;
  }
  DS_ASSIGN_OR_RETURN(const Value value, Lookup(field.substr(0, end)));
  char conversion = 0;
  if (end < field.size() && field[end] == '!') {
    if (end + 1 == field.size())
      return Wrong("end of string while looking for conversion specifier");
    conversion = field[end + 1];
    end += 2;
    if (end < field.size() && field[end] != ':')
      return Wrong("expected ':' after conversion specifier");
  }
  Buffer specification(&runtime_);
  if (end < field.size()) {
    DS_RETURN_IF_ERROR(Format(field.substr(end + 1), level + 1, &specification));
  }
  DS_ASSIGN_OR_RETURN(const std::string text, Converted(value, conversion, specification.Take()));
  return out->Append(text);
}

absl::Status BraceFormatter::Format(std::string_view text, int level, Buffer* out) {
  DS_RETURN_IF_ERROR(runtime_.Work(text.size()));
  if (level >= kMostSpecifications && text.find('{') != std::string_view::npos) {
    return Wrong("Max string recursion exceeded");
  }
  for (size_t at = 0; at < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    DS_RETURN_IF_ERROR(out->Append(text.substr(at, brace - at)));
    at = brace;
    if (at == text.size()) break;
    if (at + 1 < text.size() && text[at + 1] == text[at]) {
      DS_RETURN_IF_ERROR(out->Append(text.substr(at, 1)));
      at += 2;
      continue;
    }
    if (text[at] == '}') return Wrong("Single '}' encountered in format string");
    size_t depth = 1;
    size_t end = at + 1;
    for (; end < text.size() && depth > 0; ++end) {
      if (text[end] == '{') ++depth;
      if (text[end] == '}') --depth;
    }
    if (depth > 0) {
      return end == at + 1 ? Wrong("Single '{' encountered in format string")
                           : Wrong("expected '}' before end of string");
    }
    DS_RETURN_IF_ERROR(Field(text.substr(at + 1, end - at - 2), level, out));
    at = end;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> LayOut(Runtime& runtime,
                                   const FieldLayout& layout,
                                   std::string_view sign,
                                   std::string_view body) {
  const auto length = static_cast<Int>(CountCodePoints(sign) + CountCodePoints(body));
  const Int missing = std::max<Int>(layout.width - length, 0);
  const Int left = layout.align == '<' ? 0 : layout.align == '^' ? missing / 2 : missing;
  DS_ASSIGN_OR_RETURN(const std::string before, Filling(runtime, layout.fill, left));
  DS_ASSIGN_OR_RETURN(const std::string after, Filling(runtime, layout.fill, missing - left));
  if (layout.align == '=') return Cat(sign, before, body);
  return Cat(before, sign, body, after);
}

absl::StatusOr<std::string> FormatValue(Runtime& runtime,
                                        const Value& value,
                                        std::string_view specification) {
  if (specification.empty()) return Text(runtime, value);
  DS_ASSIGN_OR_RETURN(const Specification spec, ParseSpecification(specification));
  const bool is_float_type =
      spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.IsString()) return FormatString(runtime, spec, value, value.text());
  if (value.Is(Type::kFloat) || (value.IsIntegral() && is_float_type)) {
    return FormatFloat(runtime, spec, value);
  }
  if (value.IsIntegral()) return FormatInteger(runtime, spec, value);
  return Wrong("unsupported format string passed to ", TypeName(value), ".__format__");
}

absl::StatusOr<Value> FormatBraces(Runtime& runtime,
                                   const Value& self,
                                   const Arguments& arguments) {
  Buffer buffer(&runtime);
  DS_RETURN_IF_ERROR(
      BraceFormatter(runtime, arguments, self.IsSafe()).Format(self.text(), 0, &buffer));
  return runtime.String(buffer.Take(), self.IsSafe());
}

absl::StatusOr<Value> FormatMapping(Runtime& runtime,
                                    const Value& self,
                                    const Arguments& arguments) {
  DS_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("format_map", arguments, {""}, 1));
  if (!bound[0].Is(Type::kDict)) return Wrong("format_map() wants a mapping");
  Arguments named;
  for (const auto& [key, value] : bound[0].dict().entries) {
    if (!key.IsString()) continue;
    DS_RETURN_IF_ERROR(runtime.Work(key.text().size()));
    DS_RETURN_IF_ERROR(runtime.CheckRoom(named.keywords.size() * 4 * sizeof(Value)));
    if (key.text().size() > kMaxNameBytes) {
      return absl::ResourceExhaustedError(
          Cat("a key of format_map() is longer than ", kMaxNameBytes, " bytes"));
    }
    named.keywords.emplace_back(key.text(), value);
  }
  return FormatBraces(runtime, self, named);
}

}  // namespace deltaserve::jinja
