#pragma once

// Rewrites a split regex from characters to symbols (split_pattern.h says what these are).

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/unicode.h"

namespace deltaserve {

inline constexpr size_t kNumSymbols = 256;
// Symbol of the non-ASCII characters of class c is kFirstClassSymbol + c.
inline constexpr uint8_t kFirstClassSymbol = 0x80;
inline constexpr uint8_t kNumClassSymbols = 5;
// Symbols from here on stand for one character each: own_characters[symbol - kFirstOwnSymbol].
inline constexpr uint8_t kFirstOwnSymbol = kFirstClassSymbol + kNumClassSymbols;

// A pattern over bytes that are symbols, as PCRE2 source.
struct RewrittenPattern {
  std::string source;
  std::u32string own_characters;
};

// Errors: as SplitPattern::Create.
absl::StatusOr<RewrittenPattern> RewriteSplitPattern(const std::string& pattern,
                                                     const std::string& path);

}  // namespace deltaserve
