#pragma once

// What the tokenizer needs of Unicode: the character classes of 16.0 and the NFC of `tokenizers`.
// From committed tables, since the libraries at hand are of other versions. Pure functions.

#include <cstdint>
#include <string>
#include <string_view>

namespace deltaserve::unicode {

// The classes that split patterns speak of; they do not overlap.
enum class CharClass : uint8_t {
  kOther,
  kLetter,  // \p{L}
  kMark,    // \p{M}
  kNumber,  // \p{N}
  kSpace,   // \s: the 25 code points of White_Space
};

CharClass ClassOf(char32_t code_point);

inline bool IsSpace(char32_t code_point) { return ClassOf(code_point) == CharClass::kSpace; }

// Normalisation form C of `text`, which must be UTF-8 (Unicode 16.0, section 3.11), as `tokenizers`
// 0.23 computes it: characters younger than Unicode 9.0 neither reorder nor compose.
// Time: n log n at worst, in a run of marks; n elsewhere.
std::string Nfc(std::string_view text);

}  // namespace deltaserve::unicode
