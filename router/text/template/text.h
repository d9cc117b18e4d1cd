#pragma once

// Text as Python's str sees it: code points, their classes and cases (Unicode 14.0, Python 3.11).
// Pure functions. Every `utf8` here must be UTF-8 without surrogates.

#include <cstddef>
#include <string>
#include <string_view>

namespace deltaserve::jinja {

size_t CountCodePoints(std::string_view utf8);
// The last offset up to `at` where a character begins or the text ends.
size_t CharacterAtOrBefore(std::string_view utf8, size_t at);
std::string ToUtf8(std::u32string_view code_points);

// What str.isspace, isprintable, ... ask of one character.
bool IsSpace(char32_t c);
bool IsPrintable(char32_t c);
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsIdentifierPart(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
// True for letters that make the next one lower case in a title.
bool IsCased(char32_t c);
inline bool IsAlphanumeric(char32_t c) {
  return IsAlpha(c) || IsDecimal(c) || IsDigit(c) || IsNumeric(c);
}

// str.upper, lower, title, capitalize and swapcase.
std::u32string Upper(std::u32string_view text);
std::u32string Lower(std::u32string_view text);
std::u32string Title(std::u32string_view text);
std::u32string Capitalize(std::u32string_view text);
std::u32string SwapCase(std::u32string_view text);

// True for the characters that end a line for str.splitlines.
bool IsLineBreak(char32_t c);

// How many bytes EscapeHtml makes of one, at most.
inline constexpr size_t kMostEscaped = 5;
// `utf8` with &, <, >, ' and " as HTML entities, as markupsafe writes them.
std::string EscapeHtml(std::string_view utf8);

}  // namespace deltaserve::jinja
