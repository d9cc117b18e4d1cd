#pragma once

// The Unicode data behind unicode.h: sorted arrays for binary search, written by
// tools/unicode/make_tables.py into unicode_tables.cc.

#include <cstdint>
#include <span>

#include "router/text/unicode.h"

namespace deltaserve::unicode {

// Code points first..last, both included, are of class `value`.
struct ClassRange {
  char32_t first;
  char32_t last;
  CharClass value;
};

// Code points first..last have canonical combining class `value`; all others have 0.
struct CombiningRange {
  char32_t first;
  char32_t last;
  uint8_t value;
};

struct CodePointRange {
  char32_t first;
  char32_t last;
};

// One step of canonical decomposition; `second` is 0 for a singleton. Hangul is computed.
struct Decomposition {
  char32_t code_point;
  char32_t first;
  char32_t second;
};

// The primary composites, sorted by first, then second. Hangul is computed.
struct Composition {
  char32_t first;
  char32_t second;
  char32_t composed;
};

extern const std::span<const ClassRange> kClassRanges;
extern const std::span<const CombiningRange> kCombiningRanges;
// A text without any of these is its own NFC.
extern const std::span<const CodePointRange> kNotInertRanges;
extern const std::span<const Decomposition> kDecompositions;
extern const std::span<const Composition> kCompositions;

}  // namespace deltaserve::unicode
