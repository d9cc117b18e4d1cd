#include "worker/checkpoint/text_files.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace deltaserve {
namespace {

using nlohmann::json;

constexpr char kTokenizer[] = "tokenizer.json";
constexpr char kGenerationConfig[] = "generation_config.json";
constexpr const char* kFileNames[] = {kTokenizer, "tokenizer_config.json", "chat_template.jinja",
                                      kGenerationConfig};

std::string Digest(const std::map<std::string, std::string>& files) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  bool ok = EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  for (const auto& [name, bytes] : files) {
    const std::string head = absl::StrCat(name, "\n", bytes.size(), "\n");
    ok = ok && EVP_DigestUpdate(context.get(), head.data(), head.size()) == 1 &&
         EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) == 1;
  }
  std::string digest(32, '\0');
  ok = ok && EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()),
                                nullptr) == 1;
  DS_CHECK(ok) << "SHA-256 is not available from libcrypto";
  return absl::BytesToHexString(digest);
}

absl::StatusOr<json> ParseObject(const std::string& path, const std::string& bytes) {
  json value = json::parse(bytes, nullptr, false);
  if (value.is_discarded() || !value.is_object()) {
    return absl::InvalidArgumentError(path +
                                      " is not a JSON object; copy it from the checkpoint again");
  }
  return value;
}

// Ids of the vocabulary and of the added tokens; the end tokens among the latter go to `eos`.
absl::StatusOr<int64_t> LargestId(const std::string& path,
                                  const json& tokenizer,
                                  std::set<int32_t>* eos) {
  if (!tokenizer.contains("model") || !tokenizer["model"].is_object() ||
      !tokenizer["model"].contains("vocab") || !tokenizer["model"]["vocab"].is_object()) {
    return absl::InvalidArgumentError(
        path + ": model.vocab is missing; a byte-level BPE tokenizer has it");
  }
  int64_t largest = -1;
  for (const json& id : tokenizer["model"]["vocab"]) {
    if (!id.is_number_unsigned()) {
      return absl::InvalidArgumentError(path +
                                        ": model.vocab has an id that is not a whole number");
    }
    largest = std::max(largest, id.get<int64_t>());
  }
  const json added = tokenizer.contains("added_tokens") ? tokenizer["added_tokens"] : json::array();
  for (const json& token : added) {
    if (!token.is_object() || !token.contains("id") || !token["id"].is_number_unsigned()) {
      return absl::InvalidArgumentError(path + ": an entry of added_tokens has no id");
    }
    const int64_t id = token["id"].get<int64_t>();
    largest = std::max(largest, id);
    const json content = token.contains("content") ? token["content"] : json();
    if (content == "<|im_end|>" || content == "<|endoftext|>") {
      eos->insert(static_cast<int32_t>(id));
    }
  }
  return largest;
}

absl::Status AddEosOf(const std::string& path,
                      const json& generation_config,
                      std::set<int32_t>* eos) {
  if (!generation_config.contains("eos_token_id")) return absl::OkStatus();
  const json& value = generation_config["eos_token_id"];
  const json list = value.is_array()  ? value
                    : value.is_null() ? json::array()
                                      : json::array({value});
  for (const json& id : list) {
    if (!id.is_number_unsigned()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": eos_token_id is ", value.dump(),
                                                     "; it must be an id or a list of ids"));
    }
    eos->insert(id.get<int32_t>());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TextFiles> ReadTextFiles(const std::string& directory, const ModelConfig& config) {
  TextFiles text;
  for (const char* name : kFileNames) {
    const std::filesystem::path path = std::filesystem::path(directory) / name;
    std::ifstream in(path, std::ios::binary);
    if (!in) continue;
    std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    if (in.bad()) return absl::DataLossError(path.string() + " cannot be read");
    text.files[name] = std::move(bytes);
  }
  text.digest = Digest(text.files);
  std::set<int32_t> eos;
  for (const int64_t id : config.eos_token_id) eos.insert(static_cast<int32_t>(id));
  text.num_tokens = config.vocab_size;
  if (const auto file = text.files.find(kTokenizer); file != text.files.end()) {
    const std::string path = (std::filesystem::path(directory) / kTokenizer).string();
    DS_ASSIGN_OR_RETURN(const json tokenizer, ParseObject(path, file->second));
    DS_ASSIGN_OR_RETURN(const int64_t largest, LargestId(path, tokenizer, &eos));
    if (largest >= config.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": id ", largest, " is not below vocab_size ", config.vocab_size,
                       " of config.json; the two files are of different models"));
    }
    text.num_tokens = largest + 1;
  }
  if (const auto file = text.files.find(kGenerationConfig); file != text.files.end()) {
    const std::string path = (std::filesystem::path(directory) / kGenerationConfig).string();
    DS_ASSIGN_OR_RETURN(const json generation_config, ParseObject(path, file->second));
    DS_RETURN_IF_ERROR(AddEosOf(path, generation_config, &eos));
  }
  text.eos_token_ids.assign(eos.begin(), eos.end());
  return text;
}

}  // namespace deltaserve
