#include "router/text/template/lexer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/format_number.h"
#include "router/text/template/nesting.h"
#include "router/text/template/string_literal.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

// Line ends as LF, and without one at the very end.
std::string NormalLines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') continue;
      text.push_back('\n');
    } else {
      text.push_back(source[i]);
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool IsDigitAt(std::string_view text, size_t at) {
  return at < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[at]));
}

// One pass from left to right. Used once.
class Lexer {
 public:
  Lexer(std::string source, const std::string& name) : source_(std::move(source)), name_(name) {}

  absl::StatusOr<std::vector<Token>> Run();

 private:
  enum class Sign : uint8_t { kPlain, kStrip, kKeep };

  bool Follows(std::string_view text) const { return Rest().starts_with(text); }
  std::string_view Rest() const { return std::string_view(source_).substr(at_); }
  // Where the code point at or before `offset` starts a run of white space that ends at `offset`.
  size_t SpaceBefore(size_t begin, size_t end) const;
  size_t SkipSpace(size_t at) const;
  absl::Status Fail(size_t offset, std::string_view what) {
    return ErrorAt(name_, PositionOf(offset), what);
  }

  // Offsets must not decrease from call to call.
  Position PositionOf(size_t offset);
  void Add(TokenKind kind, size_t offset, std::string text = "", Value number = Value());

  absl::Status Comment(size_t open);
  // False where `{% raw %}` does not stand at `open`.
  absl::StatusOr<bool> Raw(size_t open);
  absl::Status Tag(size_t open, bool is_block);
  // True where the tag's end stands here; consumes it.
  bool EndTag(bool is_block);
  absl::Status TokenInTag();
  absl::Status StringToken();
  absl::Status OperatorToken();
  bool NumberToken();
  // The text from `begin` to the tag at `end`, as the tag's sign has it cut.
  std::string_view TextBefore(size_t begin, size_t end, Sign sign, bool is_print) const;
  Sign ReadSign();
  size_t Digits(size_t at) const;
  size_t FloatEnd(size_t at) const;
  size_t IntegerEnd(size_t at) const;

  const std::string source_;
  const std::string& name_;
  std::vector<Token> tokens_;
  std::string open_;  // the closing brackets that are owed
  size_t at_ = 0;
  bool starts_line_ = true;
  size_t position_offset_ = 0;
  Position position_ = {1, 1};
};

Position Lexer::PositionOf(size_t offset) {
  for (; position_offset_ < offset; ++position_offset_) {
    const auto byte = static_cast<uint8_t>(source_[position_offset_]);
    if (byte == '\n') {
      ++position_.line;
      position_.column = 1;
    } else if ((byte & 0xC0u) != 0x80) {
      ++position_.column;
    }
  }
  return position_;
}

void Lexer::Add(TokenKind kind, size_t offset, std::string text, Value number) {
  tokens_.push_back({kind, PositionOf(offset), std::move(text), std::move(number)});
}

size_t Lexer::SpaceBefore(size_t begin, size_t end) const {
  while (end > begin) {
    size_t start = end - 1;
    while (start > begin && (static_cast<uint8_t>(source_[start]) & 0xC0u) == 0x80) --start;
    if (!IsSpace(ToCodePoints(std::string_view(source_).substr(start, end - start))[0])) break;
    end = start;
  }
  return end;
}

size_t Lexer::SkipSpace(size_t at) const {
  while (at < source_.size()) {
    size_t end = at + 1;
    while (end < source_.size() && (static_cast<uint8_t>(source_[end]) & 0xC0u) == 0x80) ++end;
    if (!IsSpace(ToCodePoints(std::string_view(source_).substr(at, end - at))[0])) break;
    at = end;
  }
  return at;
}

std::string_view Lexer::TextBefore(size_t begin, size_t end, Sign sign, bool is_print) const {
  const std::string_view source = source_;
  if (sign == Sign::kStrip) return source.substr(begin, SpaceBefore(begin, end) - begin);
  if (sign == Sign::kKeep || is_print || begin == end) return source.substr(begin, end - begin);
  const size_t newline = source.substr(begin, end - begin).rfind('\n');
  const size_t line = newline == kNone ? begin : begin + newline + 1;
  const bool is_line = newline != kNone || starts_line_;
  if (is_line && SpaceBefore(line, end) == line) end = line;
  return source.substr(begin, end - begin);
}

Lexer::Sign Lexer::ReadSign() {
  if (at_ == source_.size()) return Sign::kPlain;
  if (source_[at_] == '-') return ++at_, Sign::kStrip;
  if (source_[at_] == '+') return ++at_, Sign::kKeep;
  return Sign::kPlain;
}

absl::Status Lexer::Comment(size_t open) {
  const size_t close = source_.find("#}", at_);
  if (close == kNone) return Fail(open, "the comment is not closed; end it with '#}'");
  const char sign = close > at_ ? source_[close - 1] : ' ';
  at_ = close + 2;
  if (sign == '-') {
    at_ = SkipSpace(at_);
  } else if (sign != '+' && Follows("\n")) {
    ++at_;
  }
  starts_line_ = source_[at_ - 1] == '\n';
  return absl::OkStatus();
}

absl::StatusOr<bool> Lexer::Raw(size_t open) {
  const size_t begin = at_;
  size_t at = open + 2;
  Sign sign = Sign::kPlain;
  if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) {
    sign = source_[at] == '-' ? Sign::kStrip : Sign::kKeep;
    ++at;
  }
  at = SkipSpace(at);
  const std::string_view source = source_;
  if (!source.substr(at).starts_with("raw")) return false;
  at = SkipSpace(at + 3);
  if (source.substr(at).starts_with("-%}")) {
    at = SkipSpace(at + 3);
  } else if (source.substr(at).starts_with("%}")) {
    at += 2;
  } else {
    return false;
  }
  if (const std::string_view text = TextBefore(begin, open, sign, false); !text.empty()) {
    Add(TokenKind::kText, begin, std::string(text));
  }
  starts_line_ = source_[at - 1] == '\n';
  const size_t inside = at;
  for (size_t tag = source_.find("{%", at); tag != kNone; tag = source_.find("{%", tag + 1)) {
    at_ = tag + 2;
    const Sign end_sign = ReadSign();
    at_ = SkipSpace(at_);
    if (!Follows("endraw")) continue;
    at_ = SkipSpace(at_ + 6);
    if (!EndTag(true)) continue;
    const bool ends_line = std::exchange(starts_line_, source_[inside - 1] == '\n');
    const std::string_view text = TextBefore(inside, tag, end_sign, false);
    if (!text.empty()) Add(TokenKind::kText, inside, std::string(text));
    starts_line_ = ends_line;
    return true;
  }
  return Fail(open, "'raw' is not closed; end it with '{% endraw %}'");
}

bool Lexer::EndTag(bool is_block) {
  const std::string_view close = is_block ? "%}" : "}}";
  if (Follows(Cat("-", close))) {
    at_ = SkipSpace(at_ + 3);
  } else if (is_block && Follows("+%}")) {
    at_ += 3;
  } else if (Follows(close)) {
    at_ += 2;
    if (is_block && Follows("\n")) ++at_;
  } else {
    return false;
  }
  starts_line_ = source_[at_ - 1] == '\n';
  return true;
}

absl::Status Lexer::Tag(size_t open, bool is_block) {
  Add(is_block ? TokenKind::kBlockBegin : TokenKind::kPrintBegin, open);
  while (at_ < source_.size()) {
    const size_t end = at_;
    if (open_.empty() && EndTag(is_block)) {
      Add(is_block ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, end);
      return absl::OkStatus();
    }
    if (const size_t next = SkipSpace(at_); next != at_) {
      at_ = next;
    } else {
      DS_RETURN_IF_ERROR(TokenInTag());
    }
  }
  return absl::OkStatus();
}

size_t Lexer::Digits(size_t at) const {
  while (IsDigitAt(source_, at)) {
    ++at;
    if (at < source_.size() && source_[at] == '_' && IsDigitAt(source_, at + 1)) ++at;
  }
  return at;
}

size_t Lexer::FloatEnd(size_t at) const {
  if (at > 0 && source_[at - 1] == '.') return at;
  const size_t whole = Digits(at);
  if (whole == at) return at;
  size_t end = whole;
  if (end < source_.size() && source_[end] == '.' && IsDigitAt(source_, end + 1)) {
    end = Digits(end + 1);
  }
  if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
    size_t power = end + 1;
    if (power < source_.size() && (source_[power] == '+' || source_[power] == '-')) ++power;
    if (IsDigitAt(source_, power)) return Digits(power);
  }
  return end == whole ? at : end;
}

size_t Lexer::IntegerEnd(size_t at) const {
  if (!IsDigitAt(source_, at)) return at;
  if (source_[at] != '0') return Digits(at);
  const char kind = at + 1 < source_.size() ? source_[at + 1] : ' ';
  const int base = kind == 'x' || kind == 'X'   ? 16
                   : kind == 'o' || kind == 'O' ? 8
                   : kind == 'b' || kind == 'B' ? 2
                                                : 0;
  const auto in_base = [&](size_t place) {
    if (place >= source_.size()) return false;
    const auto c = static_cast<unsigned char>(source_[place]);
    if (base == 16) return absl::ascii_isxdigit(c);
    return c >= '0' && c < '0' + base;
  };
  const auto underscore = [&](size_t place) {
    return place < source_.size() && source_[place] == '_';
  };
  if (base != 0) {
    size_t end = at + 2;
    while (in_base(end + (underscore(end) ? 1 : 0))) end += underscore(end) ? 2 : 1;
    if (end > at + 2) return end;
  }
  size_t end = at + 1;
  const auto zero = [&](size_t place) { return place < source_.size() && source_[place] == '0'; };
  while (zero(end + (underscore(end) ? 1 : 0))) end += underscore(end) ? 2 : 1;
  return end;
}

bool Lexer::NumberToken() {
  const std::string_view source = source_;
  size_t end = FloatEnd(at_);
  const bool is_float = end != at_;
  if (!is_float) end = IntegerEnd(at_);
  if (end == at_) return false;
  std::string digits(source.substr(at_, end - at_));
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  Value number;  // stays missing for an integer beyond 127 bits
  if (is_float) {
    number = Value::Float(ParseFloat(digits).value_or(0));
  } else if (const auto parsed = ParseInt(digits, 0); parsed.ok() && parsed->has_value()) {
    number = Value::Integer(**parsed);
  }
  Add(TokenKind::kNumber, at_, std::move(digits), std::move(number));
  at_ = end;
  return true;
}

absl::Status Lexer::StringToken() {
  const size_t begin = at_;
  const char quote = source_[begin];
  size_t end = begin + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return Fail(begin, "the string is not closed");
  const absl::StatusOr<std::string> text =
      UnescapeLiteral(std::string_view(source_).substr(begin + 1, end - begin - 1));
  if (!text.ok()) {
    const Position at = PositionOf(begin);
    return absl::Status(text.status().code(), Cat(name_, ":", at.line, ":", at.column, ": ",
                                                  std::string(text.status().message())));
  }
  Add(TokenKind::kString, begin, *text);
  at_ = end + 1;
  return absl::OkStatus();
}

absl::Status Lexer::OperatorToken() {
  static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
  static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
  const std::string_view rest = Rest();
  size_t size = 0;
  for (const std::string_view two : kTwo) {
    if (rest.starts_with(two)) size = 2;
  }
  if (size == 0 && kOne.find(rest[0]) != kNone) size = 1;
  if (size == 0) {
    size_t end = 1;
    while (end < rest.size() && (static_cast<uint8_t>(rest[end]) & 0xC0u) == 0x80) ++end;
    return Fail(at_, Cat("unexpected character '", rest.substr(0, end), "'"));
  }
  const std::string_view op = rest.substr(0, size);
  if (op == "{" || op == "(" || op == "[") {
    open_.push_back(op == "{" ? '}' : op == "(" ? ')' : ']');
  } else if (op == "}" || op == ")" || op == "]") {
    if (open_.empty()) return Fail(at_, Cat("unexpected '", op, "'"));
    if (open_.back() != op[0]) {
      return Fail(at_,
                  Cat("unexpected '", op, "', expected '", open_.substr(open_.size() - 1), "'"));
    }
    open_.pop_back();
  }
  Add(TokenKind::kOperator, at_, std::string(op));
  at_ += size;
  return absl::OkStatus();
}

absl::Status Lexer::TokenInTag() {
  if (NumberToken()) return absl::OkStatus();
  if (source_[at_] == '\'' || source_[at_] == '"') return StringToken();
  size_t end = at_;
  while (end < source_.size()) {
    size_t next = end + 1;
    while (next < source_.size() && (static_cast<uint8_t>(source_[next]) & 0xC0u) == 0x80) ++next;
    if (!IsIdentifierPart(ToCodePoints(std::string_view(source_).substr(end, next - end))[0]))
      break;
    end = next;
  }
  if (end == at_) return OperatorToken();
  if (end - at_ > kMaxNameBytes) {
    return BoundAt(name_, PositionOf(at_), Cat("a name is longer than ", kMaxNameBytes, " bytes"));
  }
  Add(TokenKind::kName, at_, source_.substr(at_, end - at_));
  at_ = end;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Token>> Lexer::Run() {
  while (at_ < source_.size()) {
    const size_t begin = at_;
    size_t open = source_.find('{', begin);
    while (open != kNone && (open + 1 == source_.size() ||
                             std::string_view("{%#").find(source_[open + 1]) == kNone)) {
      open = source_.find('{', open + 1);
    }
    if (open == kNone) {
      Add(TokenKind::kText, begin, source_.substr(begin));
      at_ = source_.size();
      break;
    }
    const char kind = source_[open + 1];
    if (kind == '%') {
      DS_ASSIGN_OR_RETURN(const bool is_raw, Raw(open));
      if (is_raw) continue;
    }
    at_ = open + 2;
    const Sign sign = ReadSign();
    const std::string_view text = TextBefore(begin, open, sign, kind == '{');
    if (!text.empty()) Add(TokenKind::kText, begin, std::string(text));
    starts_line_ = false;
    DS_RETURN_IF_ERROR(kind == '#' ? Comment(open) : Tag(open, kind == '%'));
  }
  Add(TokenKind::kEnd, source_.size());
  return std::move(tokens_);
}

}  // namespace

absl::Status ErrorAt(const std::string& name, Position at, std::string_view what) {
  return absl::InvalidArgumentError(Cat(name, ":", at.line, ":", at.column, ": ", what));
}

absl::Status BoundAt(const std::string& name, Position at, std::string_view what) {
  return absl::ResourceExhaustedError(Cat(name, ":", at.line, ":", at.column, ": ", what));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source, const std::string& name) {
  if (source.size() > kMaxSourceBytes) {
    return BoundAt(
        name, {1, 1},
        Cat("the template has ", source.size(), " bytes; at most ", kMaxSourceBytes, " are taken"));
  }
  if (const std::optional<size_t> at = FindInvalidUtf8(source); at.has_value()) {
    return absl::InvalidArgumentError(Cat(name, ": byte ", *at, " of the template is not UTF-8"));
  }
  return Lexer(NormalLines(source), name).Run();
}

}  // namespace deltaserve::jinja
