#pragma once

// Finding added tokens, such as "<|im_end|>", in text: leftmost, and of those the longest.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace deltaserve {

// One entry of tokenizer.json's `added_tokens`.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool lstrip = false;      // takes the white space before it
  bool rstrip = false;      // takes the white space after it
  bool normalized = false;  // is looked for in normalised text, itself normalised
  bool special = false;     // left out of text where special tokens are skipped
};

// A prefix tree of contents. Threads: immutable after construction. Owner: Tokenizer.
class AddedTokenMatcher {
 public:
  // A part of a text: an added token, or what stands between two.
  struct Span {
    std::optional<int32_t> id;
    std::string_view text;
  };

  // Contents must be distinct and not empty.
  explicit AddedTokenMatcher(const std::vector<AddedToken>& tokens);

  bool empty() const { return tokens_.empty(); }

  // The parts of `text`, UTF-8, in order; no part between tokens is empty. They point into `text`.
  // Time: bytes of text x longest common prefix of text and a content, at worst.
  std::vector<Span> Split(std::string_view text) const;

 private:
  // Index in tokens_ of the longest content that `text` begins with, or -1.
  int32_t LongestAt(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::array<int32_t, 256> roots_;                   // node after one byte, or -1
  absl::flat_hash_map<uint64_t, int32_t> children_;  // key: node << 8 | byte
  std::vector<int32_t> token_of_node_;               // index in tokens_, or -1
};

}  // namespace deltaserve
