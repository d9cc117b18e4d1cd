#pragma once

// Reads tokenizer.json and tokenizer_config.json into plain values, refusing what is not byte-level
// BPE of the form that Qwen's files have.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "router/text/added_tokens.h"
#include "router/text/bpe.h"

namespace deltaserve {

// What the two files say. A plain value.
struct TokenizerFile {
  std::vector<AddedToken> added_tokens;
  bool nfc = false;
  std::string split_pattern;
  std::string split_pattern_path;  // for messages

  std::array<int32_t, 256> byte_ids;                      // the id of every single byte
  std::vector<MergeRule> merges;                          // in order of rank
  absl::flat_hash_map<int32_t, std::string> token_bytes;  // of model and added tokens
  // Where the file has ignore_merges: the model's tokens by bytes. Empty otherwise.
  absl::flat_hash_map<std::string, int32_t> whole_pieces;

  std::optional<int32_t> eos_token_id;
};

// Errors and arguments: as Tokenizer::Create.
absl::StatusOr<TokenizerFile> ReadTokenizerFile(std::string_view tokenizer_json,
                                                std::string_view tokenizer_config_json);

}  // namespace deltaserve
