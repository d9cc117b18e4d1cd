#include "router/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/added_tokens.h"
#include "router/text/bpe.h"
#include "router/text/split_pattern.h"
#include "router/text/tokenizer_file.h"
#include "router/text/unicode.h"

namespace deltaserve {
namespace {

// Keeps 32-bit indices safe in pieces that normalisation has made longer.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Those of `tokens` that are looked for in raw (or in normalised) text, the latter as they look
// there.
std::vector<AddedToken> SelectTokens(const TokenizerFile& file, bool normalized) {
  std::vector<AddedToken> selected;
  for (AddedToken token : file.added_tokens) {
    if (token.normalized != normalized) continue;
    if (normalized && file.nfc) token.content = unicode::Nfc(token.content);
    selected.push_back(std::move(token));
  }
  return selected;
}

// Two tokens that differ only before normalisation cannot be told apart after it.
absl::Status CheckDistinct(const std::vector<AddedToken>& tokens) {
  absl::flat_hash_map<std::string, int32_t> seen;
  for (const AddedToken& token : tokens) {
    const auto [other, is_new] = seen.emplace(token.content, token.id);
    if (!is_new) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: added_tokens: ids ",
                                                     other->second, " and ", token.id,
                                                     " have the same content after normalisation"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct Tokenizer::Parts {
  struct Token {
    std::string bytes;
    bool exists = false;
    bool is_special = false;
  };
  std::vector<Token> tokens;  // by id
  absl::flat_hash_map<std::string, int32_t> added_ids;
  std::optional<int32_t> eos_token_id;
  bool nfc;
  AddedTokenMatcher raw_tokens;
  AddedTokenMatcher normalized_tokens;
  std::unique_ptr<SplitPattern> split;
  BpeModel model;
};

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(
    std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  DS_ASSIGN_OR_RETURN(TokenizerFile file, ReadTokenizerFile(tokenizer_json, tokenizer_config_json));
  const std::vector<AddedToken> raw_tokens = SelectTokens(file, /*normalized=*/false);
  const std::vector<AddedToken> normalized_tokens = SelectTokens(file, /*normalized=*/true);
  DS_RETURN_IF_ERROR(CheckDistinct(normalized_tokens));
  DS_ASSIGN_OR_RETURN(std::unique_ptr<SplitPattern> split,
                      SplitPattern::Create(file.split_pattern, file.split_pattern_path));
  auto parts = std::unique_ptr<Parts>(
      new Parts{.tokens = {},
                .added_ids = {},
                .eos_token_id = file.eos_token_id,
                .nfc = file.nfc,
                .raw_tokens = AddedTokenMatcher(raw_tokens),
                .normalized_tokens = AddedTokenMatcher(normalized_tokens),
                .split = std::move(split),
                .model = BpeModel(file.byte_ids, file.merges, std::move(file.whole_pieces))});
  int32_t highest = -1;
  for (const auto& [id, bytes] : file.token_bytes) highest = std::max(highest, id);
  parts->tokens.resize(static_cast<size_t>(highest) + 1);
  for (auto& [id, bytes] : file.token_bytes) {
    parts->tokens[static_cast<size_t>(id)] = {std::move(bytes), true, false};
  }
  for (const AddedToken& token : file.added_tokens) {
    parts->added_ids.emplace(token.content, token.id);
    parts->tokens[static_cast<size_t>(token.id)].is_special = token.special;
  }
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text) const {
  if (const std::optional<size_t> invalid = FindInvalidUtf8(text); invalid.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("text is not UTF-8 at byte ", *invalid, " of ",
                                                   text.size(),
                                                   ": send it as UTF-8, without surrogates"));
  }
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("text has ", text.size(), " bytes: at most ",
                                                   kMaxTextBytes, " are supported"));
  }
  std::vector<int32_t> ids;
  BpeModel::Scratch scratch;
  for (const AddedTokenMatcher::Span& span : parts_->raw_tokens.Split(text)) {
    if (span.id.has_value()) {
      ids.push_back(*span.id);
    } else {
      DS_RETURN_IF_ERROR(EncodeSegment(span.text, &scratch, &ids));
    }
  }
  return ids;
}

absl::Status Tokenizer::EncodeSegment(std::string_view raw,
                                      BpeModel::Scratch* scratch,
                                      std::vector<int32_t>* ids) const {
  const std::string text = parts_->nfc ? unicode::Nfc(raw) : std::string(raw);
  for (const AddedTokenMatcher::Span& span : parts_->normalized_tokens.Split(text)) {
    if (span.id.has_value()) {
      ids->push_back(*span.id);
      continue;
    }
    DS_ASSIGN_OR_RETURN(const std::vector<std::string_view> pieces,
                        parts_->split->Split(span.text));
    for (const std::string_view piece : pieces) parts_->model.Encode(piece, scratch, ids);
  }
  return absl::OkStatus();
}

int32_t Tokenizer::num_tokens() const { return static_cast<int32_t>(parts_->tokens.size()); }

bool Tokenizer::HasToken(int32_t id) const {
  return id >= 0 && id < num_tokens() && parts_->tokens[static_cast<size_t>(id)].exists;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  return HasToken(id) ? std::string_view(parts_->tokens[static_cast<size_t>(id)].bytes)
                      : std::string_view();
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return HasToken(id) && parts_->tokens[static_cast<size_t>(id)].is_special;
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view content) const {
  const auto found = parts_->added_ids.find(absl::string_view(content.data(), content.size()));
  if (found == parts_->added_ids.end()) return std::nullopt;
  return found->second;
}

std::optional<int32_t> Tokenizer::eos_token_id() const { return parts_->eos_token_id; }

}  // namespace deltaserve
