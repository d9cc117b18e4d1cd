#pragma once

// Token ids to text, a token at a time or whole. Bytes that are not UTF-8 become U+FFFD, one for
// each maximal broken prefix, as Python's bytes.decode(errors="replace") and Rust's from_utf8_lossy
// do.

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

// The text of one stream. Add() returns what its token completes, never part of a character; all
// results of Add() and the one of Finish(), joined, are Decode() of the same ids.
// Threads: one at a time. Owner: the stream. `tokenizer` must outlive it.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);

  // The text that `id` completes; empty where its bytes still wait for the rest of a character. An
  // id that has no token adds nothing, as in `tokenizers` (a world masks such ids).
  std::string Add(int32_t id);

  // The end of the stream: one U+FFFD if bytes of an unfinished character are left, else empty. The
  // detokenizer is then as new.
  std::string Finish();

  // True while Add() holds back bytes of an unfinished character.
  bool has_pending() const { return !pending_.empty(); }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;  // at most 3 bytes: a proper prefix of one UTF-8 character
};

// The whole text of `ids`. Errors: InvalidArgument naming the id and its index where an id has no
// token.
absl::StatusOr<std::string> Decode(const Tokenizer& tokenizer,
                                   std::span<const int32_t> ids,
                                   bool skip_special_tokens);

}  // namespace deltaserve
