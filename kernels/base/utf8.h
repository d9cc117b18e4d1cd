#pragma once

// UTF-8 a code point at a time: strict checking, and where broken text ends. Pure functions.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace deltaserve {

// What stands at the start of a string of bytes.
struct Utf8Step {
  enum class Kind {
    kCharacter,   // a whole character: `length` bytes, `code_point`
    kBroken,      // not UTF-8: the first `length` bytes are one maximal broken prefix
    kIncomplete,  // all `length` bytes up to the end begin a character that more bytes may complete
  };
  Kind kind;
  size_t length;  // at least 1
  char32_t code_point = 0;
};

// Reads what `bytes`, not empty, begins with. Surrogates, overlong forms and values above U+10FFFF
// are broken. (Unicode 16.0, table 3-7, and "U+FFFD substitution of maximal subparts",
// section 3.9.)
Utf8Step NextUtf8(std::string_view bytes);

// The offset of the first byte that is not part of a whole character; nullopt where all are.
std::optional<size_t> FindInvalidUtf8(std::string_view bytes);

// The code points of `text`, which must be UTF-8.
std::u32string ToCodePoints(std::string_view text);

// Appends `code_point`, a Unicode scalar value, to `text`.
void AppendUtf8(char32_t code_point, std::string* text);

}  // namespace deltaserve
