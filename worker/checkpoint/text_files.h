#pragma once

// The text files of a model folder as a world needs them: bytes to hand to routers, and the few
// numbers that token ids alone do not tell. What the files mean is the router's matter.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/checkpoint/model_config.h"

namespace deltaserve {

// A value.
struct TextFiles {
  // tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json: those there
  // are.
  std::map<std::string, std::string> files;
  std::string digest;  // SHA-256 over names, sizes and bytes, hex
  int64_t num_tokens =
      0;  // largest id of tokenizer.json + 1; vocab_size where there is no such file
  std::vector<int32_t> eos_token_ids;  // union of config.json, generation_config.json and the ids
                                       // of <|im_end|> and <|endoftext|>; ascending (spec 7.4)
};

// Errors: INVALID_ARGUMENT naming the file and what is wrong with it (not JSON, no model.vocab, an
// id at or above vocab_size).
absl::StatusOr<TextFiles> ReadTextFiles(const std::string& directory, const ModelConfig& config);

}  // namespace deltaserve
