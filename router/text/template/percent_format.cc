// str % arguments (string_format.h).

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/format_number.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/string_format.h"
#include "router/text/template/string_parts.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

// One conversion, such as %-5.2f.
struct Conversion {
  bool is_left = false;
  bool has_sign = false;
  bool has_space = false;
  bool is_alternate = false;
  bool is_zero = false;
  Int width = 0;
  std::optional<Int> precision;
  char kind = 's';
};

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Value& format, const Value& arguments)
      : runtime_(runtime),
        text_(format.text()),
        is_safe_(format.IsSafe()),
        arguments_(arguments),
        is_tuple_(arguments.Is(Type::kTuple)),
        out_(&runtime) {}

  absl::StatusOr<Value> Run();

 private:
  absl::StatusOr<Value> NextArgument();
  absl::StatusOr<Value> KeyedArgument();
  absl::StatusOr<std::optional<Int>> ReadNumber();
  absl::Status One();
  absl::StatusOr<std::string> Convert(const Conversion& conversion, const Value& value);
  absl::StatusOr<std::string> Textual(const Conversion& conversion, const Value& value);
  absl::StatusOr<std::string> Whole(const Conversion& conversion, const Value& value);
  absl::StatusOr<std::string> Fraction(const Conversion& conversion, const Value& value);
  absl::StatusOr<std::string> Number(const Conversion& conversion,
                                     bool is_negative,
                                     std::string_view prefix,
                                     std::string digits);

  Runtime& runtime_;
  const std::string_view text_;
  const bool is_safe_;
  const Value& arguments_;
  const bool is_tuple_;
  bool used_keys_ = false;
  bool has_key_ = false;
  size_t at_ = 0;
  size_t next_argument_ = 0;
  Value keyed_;
  Buffer out_;
};

absl::StatusOr<Value> PercentFormatter::NextArgument() {
  if (has_key_) return keyed_;
  if (is_tuple_) {
    if (next_argument_ < arguments_.items().size()) return arguments_.items()[next_argument_++];
  } else if (next_argument_++ == 0) {
    return arguments_;
  }
  return Wrong("not enough arguments for format string");
}

absl::StatusOr<Value> PercentFormatter::KeyedArgument() {
  if (!arguments_.Is(Type::kDict)) return Wrong("format requires a mapping");
  size_t depth = 1;
  const size_t begin = ++at_;
  while (at_ < text_.size() && depth > 0) {
    if (text_[at_] == '(') ++depth;
    if (text_[at_] == ')') --depth;
    ++at_;
  }
  if (depth > 0) return Wrong("incomplete format key");
  const std::string_view key = text_.substr(begin, at_ - 1 - begin);
  const Value* found = arguments_.dict().Find(key);
  if (found == nullptr)
    return Wrong("the format's key ", QuoteShort(key), " is not in the mapping");
  return *found;
}

absl::StatusOr<std::optional<Int>> PercentFormatter::ReadNumber() {
  if (at_ < text_.size() && text_[at_] == '*') {
    ++at_;
    DS_ASSIGN_OR_RETURN(const Value value, NextArgument());
    if (!value.IsIntegral()) return Wrong("* wants int");
    return value.int_value();
  }
  if (at_ == text_.size() || !absl::ascii_isdigit(static_cast<unsigned char>(text_[at_]))) {
    return std::nullopt;
  }
  Int number = 0;
  for (; at_ < text_.size() && absl::ascii_isdigit(static_cast<unsigned char>(text_[at_])); ++at_) {
    number = std::min<Int>(number * 10 + (text_[at_] - '0'), INT64_MAX);
  }
  return number;
}

absl::StatusOr<std::string> PercentFormatter::Textual(const Conversion& conversion,
                                                      const Value& value) {
  std::string text;
  if (conversion.kind == 'c') {
    if (value.IsString() && value.string().length == 1) {
      text = value.text();
    } else if (value.IsIntegral() && value.int_value() >= 0 && value.int_value() < 0x110000 &&
               (value.int_value() < 0xD800 || value.int_value() > 0xDFFF)) {
      AppendUtf8(static_cast<char32_t>(value.int_value()), &text);
    } else {
      return Wrong("%c requires int or char");
    }
  } else if (conversion.kind == 's') {
    DS_ASSIGN_OR_RETURN(text, Text(runtime_, value));
    if (is_safe_ && !value.IsSafe()) {
      DS_RETURN_IF_ERROR(runtime_.CheckRoom(text.size() * kMostEscaped));
      text = EscapeHtml(text);
    }
  } else {
    DS_ASSIGN_OR_RETURN(text, Repr(runtime_, value));
    if (is_safe_) text = EscapeHtml(text);
  }
  if (conversion.precision.has_value() && conversion.kind != 'c') {
    std::u32string points;
    DS_ASSIGN_OR_RETURN(points, CodePoints(runtime_, text));
    const Int kept = std::clamp<Int>(*conversion.precision, 0, static_cast<Int>(points.size()));
    text = ToUtf8(std::u32string_view(points).substr(0, static_cast<size_t>(kept)));
  }
  const Int length = static_cast<Int>(CountCodePoints(text));
  DS_ASSIGN_OR_RETURN(const std::string filling, Filling(runtime_, " ", conversion.width - length));
  return conversion.is_left ? text + filling : filling + text;
}

absl::StatusOr<std::string> PercentFormatter::Number(const Conversion& conversion,
                                                     bool is_negative,
                                                     std::string_view prefix,
                                                     std::string digits) {
  const std::string sign = Cat(is_negative            ? "-"
                               : conversion.has_sign  ? "+"
                               : conversion.has_space ? " "
                                                      : "",
                               prefix);
  FieldLayout layout;
  layout.width = conversion.width;
  layout.align = conversion.is_left ? '<' : conversion.is_zero ? '=' : '>';
  layout.fill = conversion.is_zero && !conversion.is_left ? "0" : " ";
  return LayOut(runtime_, layout, sign, digits);
}

absl::StatusOr<std::string> PercentFormatter::Whole(const Conversion& conversion,
                                                    const Value& value) {
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(conversion.kind));
  const bool is_decimal = lower == 'd' || lower == 'i' || lower == 'u';
  if (value.IsUndefined()) return UndefinedUse(value);
  Int number = 0;
  if (value.Is(Type::kFloat) && is_decimal) {
    if (!std::isfinite(value.float_value())) {
      return Wrong("cannot convert float ", FloatText(value.float_value()), " to integer");
    }
    DS_ASSIGN_OR_RETURN(number, TruncateToInt(value.float_value()));
  } else if (value.IsIntegral()) {
    number = value.int_value();
  } else {
    return Wrong("%", std::string(1, conversion.kind),
                 " format: ", is_decimal ? "a real number" : "an integer", " is required, not ",
                 TypeName(value));
  }
  const int base = lower == 'x' ? 16 : lower == 'o' ? 8 : 10;
  std::string digits = IntDigits(number < 0 ? -number : number, base);
  const Int precision = conversion.precision.value_or(0);
  if (precision > kMostDigits) return Wrong("a precision of more than ", kMostDigits, " digits");
  DS_ASSIGN_OR_RETURN(const std::string zeros,
                      Filling(runtime_, "0", precision - static_cast<Int>(digits.size())));
  std::string prefix;
  if (conversion.is_alternate && !is_decimal) prefix = Cat("0", std::string(1, lower));
  digits = zeros + digits;
  if (conversion.kind == 'X') {
    digits = absl::AsciiStrToUpper(digits);
    prefix = absl::AsciiStrToUpper(prefix);
  }
  return Number(conversion, number < 0, prefix, digits);
}

absl::StatusOr<std::string> PercentFormatter::Fraction(const Conversion& conversion,
                                                       const Value& value) {
  if (value.IsUndefined()) return UndefinedUse(value);
  if (!value.IsNumber()) return Wrong("must be real number, not ", TypeName(value));
  const Int precision = std::max<Int>(conversion.precision.value_or(6), 0);
  if (precision > kMostDigits) return Wrong("a precision of more than ", kMostDigits, " digits");
  const double number = value.AsDouble();
  const std::string digits = FloatDigits(std::abs(number), conversion.kind,
                                         static_cast<int>(precision), conversion.is_alternate);
  return Number(conversion, std::signbit(number) && !std::isnan(number), "", digits);
}

absl::StatusOr<std::string> PercentFormatter::Convert(const Conversion& conversion,
                                                      const Value& value) {
  switch (conversion.kind) {
    case 's':
    case 'r':
    case 'c':
      return Textual(conversion, value);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      return Whole(conversion, value);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      return Fraction(conversion, value);
    default:
      return Wrong("unsupported format character '", std::string(1, conversion.kind), "'");
  }
}

absl::Status PercentFormatter::One() {
  Conversion conversion;
  has_key_ = false;
  if (at_ < text_.size() && text_[at_] == '(') {
    DS_ASSIGN_OR_RETURN(keyed_, KeyedArgument());
    used_keys_ = has_key_ = true;
  }
  for (; at_ < text_.size(); ++at_) {
    bool* flag = nullptr;
    switch (text_[at_]) {
      case '-':
        flag = &conversion.is_left;
        break;
      case '+':
        flag = &conversion.has_sign;
        break;
      case ' ':
        flag = &conversion.has_space;
        break;
      case '#':
        flag = &conversion.is_alternate;
        break;
      case '0':
        flag = &conversion.is_zero;
        break;
      default:
        break;
    }
    if (flag == nullptr) break;
    *flag = true;
  }
  DS_ASSIGN_OR_RETURN(const std::optional<Int> width, ReadNumber());
  conversion.width = width.value_or(0);
  if (conversion.width < 0) {
    conversion.is_left = true;
    conversion.width = -conversion.width;
  }
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    DS_ASSIGN_OR_RETURN(const std::optional<Int> precision, ReadNumber());
    conversion.precision = std::max<Int>(precision.value_or(0), 0);
  }
  while (at_ < text_.size() && (text_[at_] == 'h' || text_[at_] == 'l' || text_[at_] == 'L')) ++at_;
  if (at_ == text_.size()) return Wrong("incomplete format");
  conversion.kind = text_[at_++];
  if (conversion.kind == '%') return out_.Append("%");
  DS_ASSIGN_OR_RETURN(const Value value, NextArgument());
  DS_ASSIGN_OR_RETURN(const std::string text, Convert(conversion, value));
  return out_.Append(text);
}

absl::StatusOr<Value> PercentFormatter::Run() {
  DS_RETURN_IF_ERROR(runtime_.Work(text_.size()));
  while (true) {
    const size_t percent = text_.find('%', at_);
    DS_RETURN_IF_ERROR(out_.Append(text_.substr(at_, percent - at_)));
    if (percent == std::string_view::npos) break;
    at_ = percent + 1;
    DS_RETURN_IF_ERROR(One());
  }
  // A mapping or a list may be left over; any other value must have been used.
  const bool may_rest = used_keys_ || arguments_.Is(Type::kDict) || arguments_.Is(Type::kList) ||
                        arguments_.Is(Type::kRange) || arguments_.IsUndefined();
  const size_t given = is_tuple_ ? arguments_.items().size() : may_rest ? 0 : 1;
  if (next_argument_ < given) {
    return Wrong("not all arguments converted during string formatting");
  }
  return runtime_.String(out_.Take(), is_safe_);
}

}  // namespace

absl::StatusOr<Value> FormatPercent(Runtime& runtime, const Value& format, const Value& arguments) {
  return PercentFormatter(runtime, format, arguments).Run();
}

}  // namespace deltaserve::jinja
