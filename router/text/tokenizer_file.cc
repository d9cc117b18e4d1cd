#include "router/text/tokenizer_file.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "router/text/byte_level.h"
#include "router/text/json_fields.h"

namespace deltaserve {
namespace {

// Ids index arrays, so a wild one in a file must not ask for gigabytes. Published ones are below
// 2^18.
constexpr int64_t kMaxTokenId = (1 << 24) - 1;

using VocabMap = absl::flat_hash_map<std::string, int32_t>;

// Unimplemented unless the member `key` is absent, null or one of `allowed`.
absl::Status ExpectNeutral(const JsonField& object,
                           const std::string& key,
                           const std::vector<nlohmann::json>& allowed,
                           std::string_view remedy) {
  const JsonField field = object.Get(key);
  if (field.value().is_null()) return absl::OkStatus();
  for (const nlohmann::json& value : allowed) {
    if (field.value() == value) return absl::OkStatus();
  }
  return field.Unsupported(remedy);
}

absl::StatusOr<std::string> TypeOf(const JsonField& field) {
  DS_RETURN_IF_ERROR(field.ExpectObject());
  return field.Get("type").String();
}

// The items of a Sequence whose list is `key`, or the field alone where it is not a Sequence.
absl::StatusOr<std::vector<JsonField>> Flatten(const JsonField& field, const std::string& key) {
  DS_ASSIGN_OR_RETURN(const std::string type, TypeOf(field));
  if (type != "Sequence") return std::vector<JsonField>{field};
  DS_RETURN_IF_ERROR(field.ExpectKeys({"type", key}));
  const JsonField list = field.Get(key);
  DS_RETURN_IF_ERROR(list.ExpectArray());
  std::vector<JsonField> items;
  for (size_t i = 0; i < list.value().size(); ++i) items.push_back(list.At(i));
  return items;
}

absl::Status ReadNormalizer(const JsonField& field, TokenizerFile* file) {
  if (field.value().is_null()) return absl::OkStatus();
  DS_ASSIGN_OR_RETURN(const std::vector<JsonField> items, Flatten(field, "normalizers"));
  for (const JsonField& item : items) {
    DS_ASSIGN_OR_RETURN(const std::string type, TypeOf(item));
    if (type != "NFC")
      return item.Get("type").Unsupported("only NFC or no normalizer is supported");
    DS_RETURN_IF_ERROR(item.ExpectKeys({"type"}));
    file->nfc = true;
  }
  return absl::OkStatus();
}

// A ByteLevel of pre_tokenizer, post_processor or decoder. Only as a pre-tokenizer do its fields
// change ids.
absl::Status ExpectByteLevel(const JsonField& field, bool is_pre_tokenizer) {
  DS_ASSIGN_OR_RETURN(const std::string type, TypeOf(field));
  if (type != "ByteLevel") return field.Get("type").Unsupported("only ByteLevel is supported here");
  DS_RETURN_IF_ERROR(field.ExpectKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  if (!is_pre_tokenizer) return absl::OkStatus();
  for (const char* key : {"add_prefix_space", "use_regex"}) {
    // Absent counts as true in `tokenizers`.
    if (field.Get(key).value() != nlohmann::json(false)) {
      return field.Get(key).Unsupported("only false is supported");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSplit(const JsonField& field, TokenizerFile* file) {
  DS_ASSIGN_OR_RETURN(const std::string type, TypeOf(field));
  if (type != "Split") {
    return field.Get("type").Unsupported("a Sequence of Split and ByteLevel is supported");
  }
  DS_RETURN_IF_ERROR(field.ExpectKeys({"type", "pattern", "behavior", "invert"}));
  if (field.Get("behavior").value() != nlohmann::json("Isolated")) {
    return field.Get("behavior").Unsupported("only \"Isolated\" is supported");
  }
  if (field.Get("invert").value() != nlohmann::json(false)) {
    return field.Get("invert").Unsupported("only false is supported");
  }
  const JsonField pattern = field.Get("pattern");
  DS_RETURN_IF_ERROR(pattern.ExpectObject());
  DS_RETURN_IF_ERROR(pattern.ExpectKeys({"Regex"}));
  DS_ASSIGN_OR_RETURN(file->split_pattern, pattern.Get("Regex").String());
  file->split_pattern_path = pattern.Get("Regex").path();
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const JsonField& field, TokenizerFile* file) {
  DS_RETURN_IF_ERROR(field.ExpectObject());
  DS_ASSIGN_OR_RETURN(const std::vector<JsonField> items, Flatten(field, "pretokenizers"));
  if (items.size() != 2) {
    return field.Unsupported("a Sequence of one Split and one ByteLevel is supported");
  }
  DS_RETURN_IF_ERROR(ReadSplit(items[0], file));
  return ExpectByteLevel(items[1], /*is_pre_tokenizer=*/true);
}

absl::Status ReadPipeline(const JsonField& root, TokenizerFile* file) {
  DS_RETURN_IF_ERROR(
      root.ExpectKeys({"version", "truncation", "padding", "added_tokens", "normalizer",
                       "pre_tokenizer", "post_processor", "decoder", "model"}));
  DS_RETURN_IF_ERROR(ExpectNeutral(root, "version", {"1.0"}, "only \"1.0\" is known"));
  DS_RETURN_IF_ERROR(ExpectNeutral(root, "truncation", {}, "set it to null"));
  DS_RETURN_IF_ERROR(ExpectNeutral(root, "padding", {}, "set it to null"));
  DS_RETURN_IF_ERROR(ReadNormalizer(root.Get("normalizer"), file));
  DS_RETURN_IF_ERROR(ReadPreTokenizer(root.Get("pre_tokenizer"), file));
  if (root.Has("post_processor")) {
    DS_ASSIGN_OR_RETURN(const std::vector<JsonField> items,
                        Flatten(root.Get("post_processor"), "processors"));
    for (const JsonField& item : items) DS_RETURN_IF_ERROR(ExpectByteLevel(item, false));
  }
  DS_RETURN_IF_ERROR(root.Get("decoder").ExpectObject());
  DS_ASSIGN_OR_RETURN(const std::vector<JsonField> decoders,
                      Flatten(root.Get("decoder"), "decoders"));
  if (decoders.size() != 1) return root.Get("decoder").Unsupported("one ByteLevel is supported");
  return ExpectByteLevel(decoders[0], false);
}

absl::StatusOr<VocabMap> ReadVocab(const JsonField& field,
                                   bool ignore_merges,
                                   TokenizerFile* file) {
  DS_RETURN_IF_ERROR(field.ExpectObject());
  VocabMap vocab;
  vocab.reserve(field.value().size());
  for (const auto& [token, unused] : field.value().items()) {
    DS_ASSIGN_OR_RETURN(const int64_t id, field.Get(token).Int(0, kMaxTokenId));
    vocab.emplace(token, static_cast<int32_t>(id));
    if (!file->token_bytes.emplace(static_cast<int32_t>(id), BytesOfToken(token)).second) {
      return field.Get(token).Invalid("another token has this id");
    }
    if (!ignore_merges) continue;
    if (std::optional<std::string> bytes = SpelledBytes(token); bytes.has_value()) {
      file->whole_pieces.emplace(*std::move(bytes), static_cast<int32_t>(id));
    }
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const auto found = vocab.find(CharacterOfByte(static_cast<uint8_t>(byte)));
    if (found == vocab.end()) {
      return absl::UnimplementedError(absl::StrCat(
          field.path(), " has no token for byte ", byte, " (\"",
          CharacterOfByte(static_cast<uint8_t>(byte)), "\"): all 256 bytes are needed"));
    }
    file->byte_ids[byte] = found->second;
  }
  return vocab;
}

// The two halves of a merge, written "a b" or ["a", "b"].
absl::StatusOr<std::pair<std::string, std::string>> MergeHalves(const JsonField& field) {
  const nlohmann::json& value = field.value();
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  } else if (value.is_array() && value.size() == 2 && value[0].is_string() &&
             value[1].is_string()) {
    return std::pair(value[0].get<std::string>(), value[1].get<std::string>());
  }
  return field.Invalid("\"left right\" or [\"left\", \"right\"] is expected");
}

absl::Status ReadMerges(const JsonField& field, const VocabMap& vocab, TokenizerFile* file) {
  DS_RETURN_IF_ERROR(field.ExpectArray());
  file->merges.reserve(field.value().size());
  for (size_t i = 0; i < field.value().size(); ++i) {
    const JsonField item = field.At(i);
    DS_ASSIGN_OR_RETURN(const auto halves, MergeHalves(item));
    const auto left = vocab.find(halves.first);
    const auto right = vocab.find(halves.second);
    const auto merged = vocab.find(halves.first + halves.second);
    if (left == vocab.end() || right == vocab.end() || merged == vocab.end()) {
      return item.Invalid("both halves and the whole must be in model.vocab");
    }
    file->merges.push_back({left->second, right->second, merged->second});
  }
  return absl::OkStatus();
}

absl::StatusOr<VocabMap> ReadModel(const JsonField& model, TokenizerFile* file) {
  DS_ASSIGN_OR_RETURN(const std::string type, TypeOf(model));
  if (type != "BPE") return model.Get("type").Unsupported("only BPE is supported");
  DS_RETURN_IF_ERROR(model.ExpectKeys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                                       "end_of_word_suffix", "fuse_unk", "byte_fallback",
                                       "ignore_merges", "vocab", "merges"}));
  DS_RETURN_IF_ERROR(ExpectNeutral(model, "dropout", {0, 0.0}, "only null or 0 is supported"));
  DS_RETURN_IF_ERROR(ExpectNeutral(model, "unk_token", {}, "only null is supported"));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    DS_RETURN_IF_ERROR(ExpectNeutral(model, key, {""}, "only null or \"\" is supported"));
  }
  DS_RETURN_IF_ERROR(ExpectNeutral(model, "fuse_unk", {false}, "only false is supported"));
  DS_RETURN_IF_ERROR(ExpectNeutral(model, "byte_fallback", {false}, "only false is supported"));
  bool ignore_merges = false;
  if (model.Has("ignore_merges")) {
    DS_ASSIGN_OR_RETURN(ignore_merges, model.Get("ignore_merges").Bool());
  }
  DS_ASSIGN_OR_RETURN(VocabMap vocab, ReadVocab(model.Get("vocab"), ignore_merges, file));
  DS_RETURN_IF_ERROR(ReadMerges(model.Get("merges"), vocab, file));
  return vocab;
}

// What an entry of added_tokens or added_tokens_decoder says, but for its id.
absl::StatusOr<AddedToken> ReadAddedToken(const JsonField& field) {
  DS_RETURN_IF_ERROR(field.ExpectObject());
  AddedToken token;
  DS_ASSIGN_OR_RETURN(token.content, field.Get("content").String());
  if (token.content.empty()) return field.Get("content").Invalid("some text is expected");
  DS_ASSIGN_OR_RETURN(const bool single_word, field.Get("single_word").Bool());
  if (single_word) return field.Get("single_word").Unsupported("only false is supported");
  DS_ASSIGN_OR_RETURN(token.lstrip, field.Get("lstrip").Bool());
  DS_ASSIGN_OR_RETURN(token.rstrip, field.Get("rstrip").Bool());
  DS_ASSIGN_OR_RETURN(token.normalized, field.Get("normalized").Bool());
  DS_ASSIGN_OR_RETURN(token.special, field.Get("special").Bool());
  return token;
}

// The added tokens of both files.
class AddedTokenReader {
 public:
  AddedTokenReader(const VocabMap& vocab, TokenizerFile* file) : vocab_(vocab), file_(file) {}

  // tokenizer.json's list.
  absl::Status ReadList(const JsonField& list) {
    if (list.value().is_null()) return absl::OkStatus();
    DS_RETURN_IF_ERROR(list.ExpectArray());
    for (size_t i = 0; i < list.value().size(); ++i) {
      const JsonField item = list.At(i);
      DS_RETURN_IF_ERROR(item.ExpectObject());
      DS_RETURN_IF_ERROR(item.ExpectKeys(
          {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
      DS_ASSIGN_OR_RETURN(const int64_t id, item.Get("id").Int(0, kMaxTokenId));
      DS_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(item));
      token.id = static_cast<int32_t>(id);
      if (ids_.contains(token.content)) {
        return item.Get("content").Invalid("another added token has this content");
      }
      DS_RETURN_IF_ERROR(Add(item.Get("id"), std::move(token)));
    }
    return absl::OkStatus();
  }

  // tokenizer_config.json's object of entries by id. Of a token in both, tokenizer.json's flags
  // count.
  absl::Status ReadDecoder(const JsonField& object) {
    if (object.value().is_null()) return absl::OkStatus();
    DS_RETURN_IF_ERROR(object.ExpectObject());
    for (const auto& [key, unused] : object.value().items()) {
      const JsonField item = object.Get(key);
      int32_t id = -1;
      if (!absl::SimpleAtoi(key, &id) || id < 0 || id > kMaxTokenId) {
        return item.Invalid("its key must be a token id");
      }
      DS_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(item));
      token.id = id;
      const auto known = ids_.find(token.content);
      if (known == ids_.end()) {
        DS_RETURN_IF_ERROR(Add(item, std::move(token)));
      } else if (known->second != id) {
        return item.Get("content").Invalid(
            absl::StrCat("tokenizer.json gives it the id ", known->second));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Add(const JsonField& field, AddedToken token) {
    const auto in_vocab = vocab_.find(token.content);
    if (in_vocab != vocab_.end() && in_vocab->second != token.id) {
      return field.Invalid(
          absl::StrCat("model.vocab gives \"", token.content, "\" the id ", in_vocab->second));
    }
    const bool is_new = file_->token_bytes.emplace(token.id, BytesOfToken(token.content)).second;
    if (!is_new && in_vocab == vocab_.end()) {
      return field.Invalid("another token has this id");
    }
    ids_.emplace(token.content, token.id);
    file_->added_tokens.push_back(std::move(token));
    return absl::OkStatus();
  }

  const VocabMap& vocab_;
  TokenizerFile* file_;
  VocabMap ids_;  // of the added tokens, by content
};

// The id of `eos_token`, written "content" or {"content": ...}.
absl::Status ReadEosToken(const JsonField& field, const VocabMap& vocab, TokenizerFile* file) {
  if (field.value().is_null()) return absl::OkStatus();
  const JsonField content_field = field.value().is_object() ? field.Get("content") : field;
  DS_ASSIGN_OR_RETURN(const std::string content, content_field.String());
  for (const AddedToken& token : file->added_tokens) {
    if (token.content == content) file->eos_token_id = token.id;
  }
  if (const auto found = vocab.find(content); found != vocab.end()) {
    file->eos_token_id = found->second;
  }
  if (!file->eos_token_id.has_value())
    return content_field.Invalid("tokenizer.json has no such token");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerFile> ReadTokenizerFile(std::string_view tokenizer_json,
                                                std::string_view tokenizer_config_json) {
  TokenizerFile file;
  DS_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(tokenizer_json, "tokenizer.json"));
  const JsonField root(json, "tokenizer.json: ");
  DS_RETURN_IF_ERROR(ReadPipeline(root, &file));
  DS_ASSIGN_OR_RETURN(const VocabMap vocab, ReadModel(root.Get("model"), &file));
  AddedTokenReader added(vocab, &file);
  DS_RETURN_IF_ERROR(added.ReadList(root.Get("added_tokens")));
  if (tokenizer_config_json.empty()) return file;

  DS_ASSIGN_OR_RETURN(const nlohmann::json config_json,
                      ParseJsonObject(tokenizer_config_json, "tokenizer_config.json"));
  const JsonField config(config_json, "tokenizer_config.json: ");
  for (const char* key : {"add_bos_token", "add_eos_token", "add_prefix_space"}) {
    DS_RETURN_IF_ERROR(ExpectNeutral(config, key, {false}, "only false is supported"));
  }
  DS_RETURN_IF_ERROR(added.ReadDecoder(config.Get("added_tokens_decoder")));
  DS_RETURN_IF_ERROR(ReadEosToken(config.Get("eos_token"), vocab, &file));
  return file;
}

}  // namespace deltaserve
