#pragma once

// What the fuzz targets share: the entry that libFuzzer (preset fuzz) or driver.cc (every other
// preset) calls, and an input's text cut into pieces.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/utf8.h"

// One file tests/fuzz/NAME_fuzz.cc defines it: runs one input, aborts where a property does not
// hold. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace deltaserve {

inline std::string_view FuzzText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The next byte off the front of `text`, 0 where there is none: a target's own choice.
inline uint8_t TakeByte(std::string_view* text) {
  if (text->empty()) return 0;
  const auto byte = static_cast<uint8_t>(text->front());
  text->remove_prefix(1);
  return byte;
}

// `bytes` with each byte that is not part of a character as '?'.
inline std::string MakeUtf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const Utf8Step step = NextUtf8(bytes);
    if (step.kind == Utf8Step::Kind::kCharacter) {
      text.append(bytes.substr(0, step.length));
    } else {
      text.append(step.length, '?');
    }
    bytes.remove_prefix(step.length);
  }
  return text;
}

// `text` in pieces of up to `longest` bytes, cut anywhere, by a fixed rule on `seed`; 0 is whole.
inline std::vector<std::string_view> CutText(std::string_view text, size_t longest, uint32_t seed) {
  if (longest == 0) return {text};
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    seed = seed * 1664525u + 1013904223u;
    const size_t length = 1 + (seed >> 16) % longest;
    pieces.push_back(text.substr(0, length));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

}  // namespace deltaserve
