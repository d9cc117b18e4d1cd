#include "router/text/python_literal.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "kernels/base/utf8.h"
#include "router/text/ascii_text.h"
#include "router/text/json_text.h"

namespace deltaserve {
namespace {

bool IsWordByte(char c) {
  return IsAsciiLetter(c) || IsAsciiDigit(c) || c == '_' || static_cast<uint8_t>(c) >= 0x80;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = AsciiLower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;
}

// Recursive descent over one text. Each Parse function takes its construct off the front and
// appends JSON; false where it is none, and all is then given up.
class LiteralParser {
 public:
  explicit LiteralParser(std::string_view text) : rest_(StripAsciiSpace(text)) {}

  std::optional<std::string> Parse() {
    std::string json;
    if (!ParseSequence('\0', 0, &json)) return std::nullopt;
    return json;
  }

 private:
  // White space; inside brackets also newlines and comments.
  void Skip(int depth) {
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (depth > 0 && c == '#') {
        rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      } else if (c == ' ' || c == '\t' || c == '\f' || (depth > 0 && (c == '\n' || c == '\r'))) {
        rest_.remove_prefix(1);
      } else {
        return;
      }
    }
  }

  bool Take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }

  // Values with commas between them up to `close`: ']', ')', or '\0' for the end of the text. For
  // the last two one value without a comma stands for itself, not for a tuple.
  bool ParseSequence(char close, int depth, std::string* json) {
    std::string items;
    size_t num_items = 0;
    bool comma = false;
    while (true) {
      if (close == '\0') {
        // Lines of white space and comments may surround the literal, but not stand within.
        const std::string_view before = rest_;
        Skip(1);
        if (rest_.empty()) break;
        if (num_items > 0) rest_ = before;
      }
      Skip(depth);
      if (close != '\0' && Take(std::string_view(&close, 1))) break;
      if (num_items > 0 && !comma) return false;
      if (num_items > 0) items += ", ";
      if (!ParseValue(depth, &items)) return false;
      ++num_items;
      Skip(depth);
      comma = Take(",");
    }
    const bool tuple = comma || num_items != 1;
    if (close == '\0' && num_items == 0) return false;
    if (close == ']' || tuple) {
      absl::StrAppend(json, "[", items, "]");
    } else {
      *json += items;
    }
    return true;
  }

  bool ParseDict(int depth, std::string* json) {
    *json += '{';
    bool comma = true;
    for (size_t num_items = 0;; ++num_items) {
      Skip(depth);
      if (Take("}")) break;
      if (!comma) return false;
      if (num_items > 0) *json += ", ";
      std::string key;
      if (!ParseValue(depth, &key) || key.starts_with('[') || key.starts_with('{')) return false;
      *json += key.starts_with('"') ? key : JsonString(key);
      Skip(depth);
      if (!Take(":")) return false;
      *json += ": ";
      Skip(depth);
      if (!ParseValue(depth, json)) return false;
      Skip(depth);
      comma = Take(",");
    }
    *json += '}';
    return true;
  }

  bool ParseValue(int depth, std::string* json) {
    if (rest_.empty()) return false;
    const bool opens = std::string_view("[({").find(rest_.front()) != std::string_view::npos;
    if (opens && depth == kMaxJsonDepth) return false;
    if (Take("[")) return ParseSequence(']', depth + 1, json);
    if (Take("(")) return ParseSequence(')', depth + 1, json);
    if (Take("{")) return ParseDict(depth + 1, json);
    const char c = rest_.front();
    if (IsAsciiDigit(c) || c == '.' || c == '-' || c == '+') {
      return ParseNumber(depth, json);
    }
    if (StartsString()) return ParseStrings(depth, json);
    size_t end = 0;
    while (end < rest_.size() && IsWordByte(rest_[end])) ++end;
    const std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(end);
    if (word == "None") *json += "null";
    if (word == "True") *json += "true";
    if (word == "False") *json += "false";
    return word == "None" || word == "True" || word == "False";
  }

  bool ParseNumber(int depth, std::string* json) {
    const bool negative = rest_.front() == '-';
    if (Take("-") || Take("+")) Skip(depth);
    size_t end = 0;
    while (end < rest_.size()) {
      const char c = rest_[end];
      const bool after_exponent = end > 0 && AsciiLower(rest_[end - 1]) == 'e';
      const bool sign = (c == '-' || c == '+') && after_exponent && !rest_.starts_with("0x") &&
                        !rest_.starts_with("0X");
      if (!IsWordByte(c) && c != '.' && !sign) break;
      ++end;
    }
    const std::string number(rest_.substr(0, end));
    rest_.remove_prefix(end);
    // What float() takes is longer than Python's numbers by a sign, by words such as "inf" and by
    // leading zeros of integers.
    if (number.empty() || IsWordStart(number.front())) return false;
    if (negative) *json += '-';
    if (number.size() > 1 && number[0] == '0' && IsAsciiLetter(number[1]) &&
        AsciiLower(number[1]) != 'e') {
      return AppendBasedInt(number, json);
    }
    const bool is_int = number.find_first_of(".eE") == std::string::npos;
    const auto converted = is_int ? PythonIntToJson(number) : PythonFloatToJson(number);
    if (!converted || (is_int && number[0] == '0' && *converted != "0")) return false;
    if (negative && *converted == "0" && is_int) json->pop_back();
    *json += *converted;
    return true;
  }

  static bool IsWordStart(char c) { return IsWordByte(c) && !IsAsciiDigit(c); }

  // 0x, 0o and 0b.
  static bool AppendBasedInt(std::string_view number, std::string* json) {
    const char letter = AsciiLower(number[1]);
    const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (base == 0) return false;
    uint64_t value = 0;
    bool after_underscore = true;  // one may stand after the letter, and something must follow it
    for (size_t i = 2; i < number.size(); ++i) {
      if (number[i] == '_') {
        if (i > 2 && after_underscore) return false;
        after_underscore = true;
        continue;
      }
      const int digit = HexDigit(number[i]);
      if (digit >= base) return false;
      if (value > (UINT64_MAX - static_cast<uint64_t>(digit)) / static_cast<uint64_t>(base)) {
        return false;
      }
      value = value * static_cast<uint64_t>(base) + static_cast<uint64_t>(digit);
      after_underscore = false;
    }
    if (after_underscore) return false;
    if (value == 0 && json->ends_with('-')) json->pop_back();
    absl::StrAppend(json, value);
    return true;
  }

  bool StartsString() const {
    size_t at = 0;
    if (!rest_.empty() && std::string_view("rRuU").find(rest_[0]) != std::string_view::npos) at = 1;
    return at < rest_.size() && (rest_[at] == '"' || rest_[at] == '\'');
  }

  // One string, or several side by side, which are one.
  bool ParseStrings(int depth, std::string* json) {
    std::string text;
    do {
      if (!ParseString(&text)) return false;
      Skip(depth);
    } while (StartsString());
    if (FindInvalidUtf8(text)) return false;
    *json += JsonString(text);
    return true;
  }

  bool ParseString(std::string* text) {
    const bool raw = Take("r") || Take("R");
    if (!raw && !Take("u")) Take("U");
    const char quote = rest_.front();
    const std::string triple(3, quote);
    const bool is_triple = Take(triple);
    if (!is_triple) rest_.remove_prefix(1);
    while (!rest_.empty()) {
      if (is_triple ? Take(triple) : Take(std::string_view(&quote, 1))) return true;
      const char c = rest_.front();
      rest_.remove_prefix(1);
      if (!is_triple && (c == '\n' || c == '\r')) return false;
      if (c != '\\') {
        text->push_back(c);
        continue;
      }
      if (rest_.empty() || (!raw && !ParseEscape(text))) return false;
      if (raw) {
        text->push_back('\\');
        text->push_back(rest_.front());
        rest_.remove_prefix(1);
      }
    }
    return false;
  }

  // What follows a backslash.
  bool ParseEscape(std::string* text) {
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kMeant = "\\'\"\a\b\f\n\r\t\v";
    const char c = rest_.front();
    if (c >= '0' && c <= '7') return ParseOctal(text);
    rest_.remove_prefix(1);
    if (c == '\n') return true;
    if (const size_t at = kLetters.find(c); at != std::string_view::npos) {
      text->push_back(kMeant[at]);
      return true;
    }
    switch (c) {
      case 'x':
        return ParseHex(2, text);
      case 'u':
        return ParseHex(4, text);
      case 'U':
        return ParseHex(8, text);
      case 'N':
        return false;
      default:
        text->push_back('\\');
        text->push_back(c);
        return true;
    }
  }

  bool ParseHex(size_t num_digits, std::string* text) {
    if (rest_.size() < num_digits) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < num_digits; ++i) {
      const int digit = HexDigit(rest_[i]);
      if (digit > 15) return false;
      value = value * 16 + static_cast<uint64_t>(digit);
    }
    rest_.remove_prefix(num_digits);
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return false;
    AppendUtf8(static_cast<char32_t>(value), text);
    return true;
  }

  bool ParseOctal(std::string* text) {
    char32_t value = 0;
    for (int i = 0; i < 3 && !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '7'; ++i) {
      value = value * 8 + static_cast<char32_t>(rest_[0] - '0');
      rest_.remove_prefix(1);
    }
    AppendUtf8(value, text);
    return true;
  }

  std::string_view rest_;
};

}  // namespace

std::optional<std::string> PythonLiteralToJson(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;  // no Python source has it
  return LiteralParser(text).Parse();
}

}  // namespace deltaserve
