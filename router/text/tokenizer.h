#pragma once

// Text to token ids and back to bytes: byte-level BPE exactly as the `tokenizers` library runs a
// checkpoint's tokenizer.json (specification, section 7).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/bpe.h"

namespace deltaserve {

// One checkpoint's tokenizer: added tokens, NFC, split regex, BPE merges.
// Threads: immutable after Create; every method may be called from any thread at once.
// Owner: whoever serves the model; it must outlive the Detokenizers made on it.
class Tokenizer {
 public:
  // `tokenizer_json`: bytes of tokenizer.json. `tokenizer_config_json`: bytes of
  // tokenizer_config.json, or empty where the checkpoint has none (its `eos_token` and those of its
  // `added_tokens_decoder` that tokenizer.json lacks are taken).
  // Errors: InvalidArgument for what is malformed, Unimplemented for what is well formed but not
  // byte-level BPE of the supported form; both name file and field path.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(std::string_view tokenizer_json,
                                                           std::string_view tokenizer_config_json);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Ids of `text`; added tokens in the text become their ids. Nothing is prepended or appended.
  // Time grows as n log n in the bytes of `text`, whatever they are.
  // Errors: InvalidArgument with the byte offset where `text` is not UTF-8; ResourceExhausted where
  // the split regex exceeds its match limit (not reachable with the Qwen patterns).
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const;

  // Highest id that has a token, plus one. Rows of an embedding beyond it have no token.
  int32_t num_tokens() const;

  // True where `id` (any value) has a token: there may be holes below num_tokens().
  bool HasToken(int32_t id) const;

  // The raw bytes that `id` stands for, which need not be whole UTF-8; of an added token its
  // content. Empty where HasToken(id) is false. Valid as long as this tokenizer.
  std::string_view TokenBytes(int32_t id) const;

  // True for the added tokens marked special, which skip_special_tokens leaves out of text.
  bool IsSpecial(int32_t id) const;

  // The id of the added token whose content is exactly `content`, such as "<|im_end|>".
  std::optional<int32_t> TokenId(std::string_view content) const;

  // The id of tokenizer_config.json's `eos_token`, where it has one.
  std::optional<int32_t> eos_token_id() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  // Appends the ids of `raw`, which holds no added token that is matched before normalisation.
  absl::Status EncodeSegment(std::string_view raw,
                             BpeModel::Scratch* scratch,
                             std::vector<int32_t>* ids) const;

  std::unique_ptr<const Parts> parts_;
};

}  // namespace deltaserve
