#include "router/text/template/string_literal.h"

#include "absl/strings/ascii.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

// Appends the character of exactly `size` hex digits at `at`.
absl::Status AppendHex(std::string_view text, size_t at, size_t size, std::string* out) {
  char32_t value = 0;
  for (size_t i = at; i < at + size; ++i) {
    if (i >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i]))) {
      return absl::InvalidArgumentError(
          Cat("the escape '\\", text.substr(at - 1, i - at + 1), "' needs ", size, " hex digits"));
    }
    const char c = absl::ascii_tolower(static_cast<unsigned char>(text[i]));
    value = value << 4 | static_cast<char32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  if (value >= 0xD800 && value < 0xE000) {
    return absl::UnimplementedError(Cat("the escape '\\", text.substr(at - 1, size + 1),
                                        "' is half a character; write the character itself"));
  }
  if (value > 0x10FFFF) {
    return absl::InvalidArgumentError(
        Cat("the escape '\\", text.substr(at - 1, size + 1), "' is no character"));
  }
  AppendUtf8(value, out);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> UnescapeLiteral(std::string_view text) {
  static constexpr std::string_view kEscapes = "\\'\"abfnrtv";
  static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      result.push_back(text[i]);
      continue;
    }
    const char c = text[++i];
    if (const size_t at = kEscapes.find(c); at != std::string_view::npos) {
      result.push_back(kMeanings[at]);
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      const size_t end = std::min(text.size(), i + 3);
      for (; i < end && text[i] >= '0' && text[i] <= '7'; ++i) {
        value = value << 3 | static_cast<char32_t>(text[i] - '0');
      }
      --i;
      AppendUtf8(value, &result);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t size = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      DS_RETURN_IF_ERROR(AppendHex(text, i + 1, size, &result));
      i += size;
    } else if (c == 'N') {
      return absl::UnimplementedError("the escape '\\N' is not supported; use \\uXXXX");
    } else if (c != '\n') {
      result.push_back('\\');
      result.push_back(c);
    }
  }
  return result;
}

}  // namespace deltaserve::jinja
