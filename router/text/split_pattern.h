#pragma once

// The split regex of tokenizer.json, run by PCRE2 over character classes instead of characters.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "router/text/unicode.h"

namespace deltaserve {

// A text is split as `tokenizers`' pre-tokenizer Split does with behaviour "Isolated": every match
// and everything between matches is a piece.
//
// PCRE2 is not asked what a letter is, since Debian's knows another Unicode than `tokenizers`. Each
// character becomes one byte, its symbol: ASCII is itself; one symbol stands for every other
// letter, one for every other mark, number, white space and anything else; and a character of its
// own has one that the pattern names or that caseless matching needs. The pattern is rewritten to
// the same symbols.
//
// Accepted: literals, ( (?: (?i: (?= (?! groups, |, ? * + {n} {n,} {n,m}, the lazy and possessive
// forms of ? * +, classes of literals, ASCII ranges, \p{L} \p{M} \p{N} \s and their complements \P
// \S, and \r \n \t. (?i: holds ASCII literals and classes of them. All else is refused with its
// offset.
//
// Threads: immutable after Create. Owner: Tokenizer.
class SplitPattern {
 public:
  // Errors: Unimplemented for what is not accepted or may match nothing; InvalidArgument for what
  // is not a pattern. Messages begin with `path`, the field's path in its file.
  static absl::StatusOr<std::unique_ptr<SplitPattern>> Create(const std::string& pattern,
                                                              const std::string& path);
  ~SplitPattern();
  SplitPattern(const SplitPattern&) = delete;
  SplitPattern& operator=(const SplitPattern&) = delete;

  // The pieces of `text`, UTF-8; joined they are `text`. Errors: ResourceExhausted past PCRE2's
  // match limit.
  absl::StatusOr<std::vector<std::string_view>> Split(std::string_view text) const;

 private:
  struct Compiled;  // owns the PCRE2 code
  SplitPattern(std::unique_ptr<const Compiled> compiled,
               absl::flat_hash_map<char32_t, uint8_t> own_symbols);

  uint8_t SymbolOf(char32_t code_point) const;

  std::unique_ptr<const Compiled> compiled_;
  absl::flat_hash_map<char32_t, uint8_t> own_symbols_;
};

}  // namespace deltaserve
