#pragma once

// The Unicode data behind text.h: sorted arrays for binary search, written by
// tools/unicode/make_python_tables.py into unicode_tables.cc.

#include <cstdint>
#include <span>

namespace deltaserve::jinja {

// Code points first, first + stride, ... last have the bits `value`; all others have none. Two
// ranges of stride 2 may interleave, never more.
struct PropertyRange {
  char32_t first;
  char32_t last;
  uint8_t stride;
  uint8_t value;
};

// What to add to a code point for its upper, lower and title case.
struct MappingRange {
  char32_t first;
  char32_t last;
  uint8_t stride;
  int32_t upper;
  int32_t lower;
  int32_t title;
};

// A code point whose upper (0), lower (1) or title (2) case is several; unused places are 0.
struct Expansion {
  char32_t code_point;
  uint8_t kind;
  char32_t to[3];
};

extern const std::span<const PropertyRange> kPropertyRanges;
extern const std::span<const PropertyRange> kCaseRanges;
extern const std::span<const MappingRange> kMappingRanges;
extern const std::span<const Expansion> kExpansions;  // by code point, then kind

}  // namespace deltaserve::jinja
