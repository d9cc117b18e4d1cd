#pragma once

// The text files of a checkpoint as values, and the generation defaults and EOS ids they give. A
// router fetches the files from a world; offline tools read them from a model folder.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

inline constexpr char kTokenizerFile[] = "tokenizer.json";
inline constexpr char kTokenizerConfigFile[] = "tokenizer_config.json";
inline constexpr char kChatTemplateFile[] = "chat_template.jinja";
inline constexpr char kGenerationConfigFile[] = "generation_config.json";

// Files by name, as bytes. A plain value; no thread rule beyond that of its map.
struct TextAssets {
  std::map<std::string, std::string> files;

  // Reads those of the four files that `folder` has. Errors: NotFound where tokenizer.json is
  // missing, DataLoss where a file cannot be read.
  static absl::StatusOr<TextAssets> Read(const std::string& folder);

  // The bytes of file `name`, or empty where the checkpoint has none.
  std::string_view Bytes(const std::string& name) const;

  // Tokenizer::Create of tokenizer.json and tokenizer_config.json. Errors: NotFound where
  // tokenizer.json is missing, else those of Create.
  absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer() const;
};

// What generation_config.json says of sampling; an absent field is nullopt, and the router then
// uses the neutral value. All other fields of the file are ignored.
struct GenerationDefaults {
  std::optional<float> temperature;  // 0 where `do_sample` is false: greedy
  std::optional<float> top_p;
  std::optional<int32_t> top_k;  // 0 is off
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::vector<int32_t> eos_token_ids;  // of `eos_token_id`, a number or a list; sorted, no repeats

  // `generation_config_json`: bytes of the file; empty gives every field absent.
  // Errors: InvalidArgument naming the field, its value and its range.
  static absl::StatusOr<GenerationDefaults> Parse(std::string_view generation_config_json);
};

// The ids that end a generation (specification 7.4): the union of generation_config's, of the ids
// of
// <|im_end|> and <|endoftext|> in this tokenizer and of tokenizer_config's eos_token; sorted.
// Errors: InvalidArgument naming an id of generation_config that has no token.
absl::StatusOr<std::vector<int32_t>> EosTokenIds(const Tokenizer& tokenizer,
                                                 const GenerationDefaults& defaults);

}  // namespace deltaserve
