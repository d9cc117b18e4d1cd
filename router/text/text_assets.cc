#include "router/text/text_assets.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "router/text/json_fields.h"

namespace deltaserve {
namespace {

constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();

// The member `key` of `config` as a number that `is_legal`, or nullopt where it is absent.
absl::StatusOr<std::optional<float>> OptionalNumber(const JsonField& config,
                                                    const std::string& key,
                                                    bool (*is_legal)(double),
                                                    const char* range) {
  if (!config.Has(key)) return std::optional<float>();
  const JsonField field = config.Get(key);
  DS_ASSIGN_OR_RETURN(const double value, field.Number());
  if (!is_legal(value) || value > std::numeric_limits<float>::max()) return field.Invalid(range);
  return std::optional<float>(static_cast<float>(value));
}

absl::StatusOr<std::vector<int32_t>> EosIds(const JsonField& field) {
  std::vector<int32_t> ids;
  if (field.value().is_null()) return ids;
  if (field.value().is_array()) {
    for (size_t i = 0; i < field.value().size(); ++i) {
      DS_ASSIGN_OR_RETURN(const int64_t id, field.At(i).Int(0, kMaxId));
      ids.push_back(static_cast<int32_t>(id));
    }
  } else {
    DS_ASSIGN_OR_RETURN(const int64_t id, field.Int(0, kMaxId));
    ids.push_back(static_cast<int32_t>(id));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

absl::StatusOr<TextAssets> TextAssets::Read(const std::string& folder) {
  TextAssets assets;
  for (const char* name :
       {kTokenizerFile, kTokenizerConfigFile, kChatTemplateFile, kGenerationConfigFile}) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    std::ifstream stream(path, std::ios::binary);
    std::ostringstream bytes;
    bytes << stream.rdbuf();
    const auto size = std::filesystem::file_size(path, error);
    if (!stream || error || bytes.str().size() != size) {
      return absl::DataLossError(
          absl::StrCat(path.string(), " cannot be read: check its permissions"));
    }
    assets.files[name] = std::move(bytes).str();
  }
  if (!assets.files.contains(kTokenizerFile)) {
    return absl::NotFoundError(absl::StrCat(folder, " has no ", kTokenizerFile,
                                            ": copy it from the published checkpoint"));
  }
  return assets;
}

std::string_view TextAssets::Bytes(const std::string& name) const {
  const auto found = files.find(name);
  return found == files.end() ? std::string_view() : std::string_view(found->second);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TextAssets::MakeTokenizer() const {
  if (!files.contains(kTokenizerFile)) {
    return absl::NotFoundError(
        absl::StrCat("the text assets hold no ", kTokenizerFile, ": the model has none"));
  }
  return Tokenizer::Create(Bytes(kTokenizerFile), Bytes(kTokenizerConfigFile));
}

absl::StatusOr<GenerationDefaults> GenerationDefaults::Parse(
    std::string_view generation_config_json) {
  GenerationDefaults defaults;
  if (generation_config_json.empty()) return defaults;
  DS_ASSIGN_OR_RETURN(const nlohmann::json json,
                      ParseJsonObject(generation_config_json, kGenerationConfigFile));
  const JsonField config(json, absl::StrCat(kGenerationConfigFile, ": "));
  const auto at_least_0 = [](double value) { return value >= 0; };
  const auto above_0 = [](double value) { return value > 0; };
  const auto share = [](double value) { return value >= 0 && value <= 1; };
  const auto positive_share = [](double value) { return value > 0 && value <= 1; };
  DS_ASSIGN_OR_RETURN(defaults.temperature, OptionalNumber(config, "temperature", at_least_0,
                                                           "0 (greedy) or more is expected"));
  DS_ASSIGN_OR_RETURN(defaults.top_p, OptionalNumber(config, "top_p", positive_share,
                                                     "a number above 0, up to 1, is expected"));
  DS_ASSIGN_OR_RETURN(defaults.min_p,
                      OptionalNumber(config, "min_p", share, "a number from 0 to 1 is expected"));
  DS_ASSIGN_OR_RETURN(
      defaults.repetition_penalty,
      OptionalNumber(config, "repetition_penalty", above_0, "a number above 0 is expected"));
  if (config.Has("top_k")) {
    DS_ASSIGN_OR_RETURN(const int64_t top_k, config.Get("top_k").Int(-1, kMaxId));
    defaults.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  }
  if (config.Has("do_sample")) {
    DS_ASSIGN_OR_RETURN(const bool do_sample, config.Get("do_sample").Bool());
    if (!do_sample) defaults.temperature = 0.0f;
  }
  DS_ASSIGN_OR_RETURN(defaults.eos_token_ids, EosIds(config.Get("eos_token_id")));
  return defaults;
}

absl::StatusOr<std::vector<int32_t>> EosTokenIds(const Tokenizer& tokenizer,
                                                 const GenerationDefaults& defaults) {
  std::vector<int32_t> ids = defaults.eos_token_ids;
  for (const int32_t id : ids) {
    if (!tokenizer.HasToken(id)) {
      return absl::InvalidArgumentError(absl::StrCat(kGenerationConfigFile, ": eos_token_id holds ",
                                                     id, ", which has no token in ", kTokenizerFile,
                                                     " (ids below ", tokenizer.num_tokens(),
                                                     "): take both from one checkpoint"));
    }
  }
  for (const char* content : {"<|im_end|>", "<|endoftext|>"}) {
    if (const auto id = tokenizer.TokenId(content); id.has_value()) ids.push_back(*id);
  }
  if (tokenizer.eos_token_id().has_value()) ids.push_back(*tokenizer.eos_token_id());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace deltaserve
