#include "router/text/json_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "router/text/ascii_text.h"

namespace deltaserve {
namespace {

// Writes what nlohmann's parser reports; each method says whether to go on.
class NormalizingSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::string Take() { return std::move(json_); }

  bool null() override { return Put("null"); }
  bool boolean(bool value) override { return Put(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Put(absl::StrCat(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Put(absl::StrCat(value)); }
  bool number_float(number_float_t /*value*/, const string_t& spelling) override {
    return Put(spelling);
  }
  bool string(string_t& value) override { return Put(JsonString(value)); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*elements*/) override { return Open('{'); }
  bool key(string_t& value) override {
    if (!Put(JsonString(value))) return false;
    json_ += ": ";
    needs_comma_ = false;
    return true;
  }
  bool end_object() override { return Close('}'); }
  bool start_array(std::size_t /*elements*/) override { return Open('['); }
  bool end_array() override { return Close(']'); }
  bool parse_error(std::size_t /*position*/,
                   const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return false;
  }

 private:
  bool Put(std::string_view text) {
    if (needs_comma_) json_ += ", ";
    json_ += text;
    needs_comma_ = true;
    return true;
  }
  bool Open(char bracket) {
    Put(std::string_view(&bracket, 1));
    needs_comma_ = false;
    return ++depth_ <= kMaxJsonDepth;
  }
  bool Close(char bracket) {
    json_ += bracket;
    needs_comma_ = true;
    --depth_;
    return true;
  }

  std::string json_;
  bool needs_comma_ = false;
  int depth_ = 0;
};

// The white space that Python strips around numbers, of ASCII.
std::string_view StripPythonSpace(std::string_view text) {
  const auto is_space = [](char c) { return IsAsciiSpace(c) || (c >= '\x1C' && c <= '\x1F'); };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// Takes digits with single underscores between them off the front of `text`; false where an
// underscore stands elsewhere. No digits at all are legal.
bool TakeDigits(std::string_view* text, std::string* digits) {
  bool after_digit = false;
  size_t at = 0;
  for (; at < text->size(); ++at) {
    const char c = (*text)[at];
    if (IsAsciiDigit(c)) {
      digits->push_back(c);
      after_digit = true;
    } else if (c == '_' && after_digit) {
      after_digit = false;
    } else {
      break;
    }
  }
  if (!digits->empty() && !after_digit) return false;
  text->remove_prefix(at);
  return true;
}

bool TakeSign(std::string_view* text) {
  if (text->empty() || (text->front() != '-' && text->front() != '+')) return false;
  const bool negative = text->front() == '-';
  text->remove_prefix(1);
  return negative;
}

void DropLeadingZeros(std::string* digits) {
  digits->erase(0, std::min(digits->find_first_not_of('0'), digits->size() - 1));
}

bool IsFiniteDouble(const std::string& json) {
  double value = 0;
  return absl::SimpleAtod(json, &value) && std::isfinite(value);
}

}  // namespace

void AppendJsonEscaped(std::string_view bytes, std::string* json) {
  constexpr char kHex[] = "0123456789abcdef";
  for (const char byte : bytes) {
    switch (byte) {
      case '"':
        *json += "\\\"";
        break;
      case '\\':
        *json += "\\\\";
        break;
      case '\b':
        *json += "\\b";
        break;
      case '\f':
        *json += "\\f";
        break;
      case '\n':
        *json += "\\n";
        break;
      case '\r':
        *json += "\\r";
        break;
      case '\t':
        *json += "\\t";
        break;
      default:
        if (const auto code = static_cast<uint8_t>(byte); code < 0x20) {
          *json += "\\u00";
          *json += kHex[code >> 4];
          *json += kHex[code & 0xF];
        } else {
          *json += byte;
        }
    }
  }
}

std::string JsonString(std::string_view text) {
  std::string json = "\"";
  AppendJsonEscaped(text, &json);
  json += '"';
  return json;
}

std::optional<std::string> NormalizeJson(std::string_view text) {
  NormalizingSax sax;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &sax)) return std::nullopt;
  return sax.Take();
}

std::optional<std::string> PythonIntToJson(std::string_view text) {
  text = StripPythonSpace(text);
  const bool negative = TakeSign(&text);
  std::string digits;
  if (!TakeDigits(&text, &digits) || digits.empty() || !text.empty()) return std::nullopt;
  DropLeadingZeros(&digits);
  std::string json = negative && digits != "0" ? "-" + digits : digits;
  if (!IsFiniteDouble(json)) return std::nullopt;
  return json;
}

std::optional<std::string> PythonFloatToJson(std::string_view text) {
  text = StripPythonSpace(text);
  const bool negative = TakeSign(&text);
  std::string whole;
  std::string fraction;
  if (!TakeDigits(&text, &whole)) return std::nullopt;
  const bool has_point = text.starts_with('.');
  if (has_point) {
    text.remove_prefix(1);
    if (!TakeDigits(&text, &fraction)) return std::nullopt;
  }
  if (whole.empty() && fraction.empty()) return std::nullopt;
  std::string exponent;
  if (!text.empty() && (text.front() == 'e' || text.front() == 'E')) {
    exponent.push_back(text.front());
    text.remove_prefix(1);
    if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
      exponent.push_back(text.front());
      text.remove_prefix(1);
    }
    std::string digits;
    if (!TakeDigits(&text, &digits) || digits.empty()) return std::nullopt;
    exponent += digits;
  }
  if (!text.empty()) return std::nullopt;
  if (whole.empty()) whole = "0";
  DropLeadingZeros(&whole);
  if (has_point && fraction.empty()) fraction = "0";
  std::string json =
      absl::StrCat(negative ? "-" : "", whole, has_point ? "." : "", fraction, exponent);
  if (!IsFiniteDouble(json)) return std::nullopt;
  return json;
}

}  // namespace deltaserve
