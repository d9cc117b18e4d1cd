#include "tools/checkpoint_maker.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/files.h"
#include "worker/checkpoint/random_values.h"
#include "worker/checkpoint/safetensors_writer.h"
#include "worker/checkpoint/sha256.h"

namespace deltaserve {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kTokenizerFiles[] = {
    "chat_template.jinja", "generation_config.json", "merges.txt",
    "tokenizer.json",      "tokenizer_config.json",  "vocab.json"};
constexpr size_t kDigestPiece = size_t{1} << 22;

struct Names {
  const char* architecture;
  const char* model_type;  // of the outer object
};

Names NamesOf(const CheckpointShape& shape) {
  switch (shape.config.family) {
    case ModelFamily::kQwen3Next:
      return {"Qwen3NextForCausalLM", "qwen3_next"};
    case ModelFamily::kQwen35Moe:
      if (shape.nested) return {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"};
      return {"Qwen3_5MoeForCausalLM", "qwen3_5_moe_text"};
    case ModelFamily::kQwen35:
      break;
  }
  if (shape.nested) return {"Qwen3_5ForConditionalGeneration", "qwen3_5"};
  return {"Qwen3_5ForCausalLM", "qwen3_5_text"};
}

// Qwen3-Next writes theta and the rotary share flat, Qwen3.5 in rope_parameters.
void AddRope(const ModelConfig& config, Json& text) {
  const double factor =
      static_cast<double>(config.rotary_dim) / static_cast<double>(config.head_dim);
  text["partial_rotary_factor"] = factor;
  if (config.family == ModelFamily::kQwen3Next) {
    text["rope_theta"] = config.rope_theta;
    text["rope_scaling"] = nullptr;
    return;
  }
  text["rope_parameters"] = {{"mrope_interleaved", true},
                             {"mrope_section", {11, 11, 10}},
                             {"partial_rotary_factor", factor},
                             {"rope_theta", config.rope_theta},
                             {"rope_type", "default"}};
}

void AddFeedForward(const ModelConfig& config, Json& text) {
  if (!config.is_moe()) {
    text["intermediate_size"] = config.intermediate_size;
    return;
  }
  text["num_experts"] = config.num_experts;
  text["num_experts_per_tok"] = config.num_experts_per_tok;
  text["moe_intermediate_size"] = config.moe_intermediate_size;
  text["shared_expert_intermediate_size"] = config.shared_expert_intermediate_size;
  if (config.family == ModelFamily::kQwen3Next) {
    text["norm_topk_prob"] = config.norm_topk_prob;
    text["decoder_sparse_step"] = 1;
    text["intermediate_size"] = 4 * config.hidden_size;  // of dense layers, of which there are none
    text["mlp_only_layers"] = Json::array();
  }
}

Json TextConfig(const CheckpointShape& shape, int64_t eos_token_id) {
  const ModelConfig& config = shape.config;
  Json text;
  text["attention_bias"] = false;
  if (config.family != ModelFamily::kQwen3Next) {
    text["attn_output_gate"] = true;
    text["mtp_num_hidden_layers"] = shape.extra_tensors ? 1 : 0;
    text["mtp_use_dedicated_embeddings"] = false;
    text["mamba_ssm_dtype"] = "float32";
  }
  text["dtype"] = "bfloat16";
  text["eos_token_id"] = eos_token_id;
  text["full_attention_interval"] = 4;
  text["head_dim"] = config.head_dim;
  text["hidden_act"] = "silu";
  text["hidden_size"] = config.hidden_size;
  text["layer_types"] = Json::array();
  for (const LayerType type : config.layer_types) {
    text["layer_types"].push_back(LayerTypeName(type));
  }
  text["linear_conv_kernel_dim"] = config.linear_conv_kernel_dim;
  text["linear_key_head_dim"] = config.linear_key_head_dim;
  text["linear_num_key_heads"] = config.linear_num_key_heads;
  text["linear_num_value_heads"] = config.linear_num_value_heads;
  text["linear_value_head_dim"] = config.linear_value_head_dim;
  text["max_position_embeddings"] = config.max_position_embeddings;
  text["model_type"] = config.model_type;
  text["num_attention_heads"] = config.num_attention_heads;
  text["num_hidden_layers"] = config.num_hidden_layers;
  text["num_key_value_heads"] = config.num_key_value_heads;
  text["rms_norm_eps"] = config.rms_norm_eps;
  text["tie_word_embeddings"] = config.tie_word_embeddings;
  text["vocab_size"] = config.vocab_size;
  AddFeedForward(config, text);
  AddRope(config, text);
  return text;
}

// What a published folder holds beside the text model: the MTP block's own tensors and vision.
std::vector<StoredTensor> ExtraTensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  std::vector<StoredTensor> tensors = {
      {.name = "mtp.fc.weight", .shape = {hidden, 2 * hidden}},
      {.name = "mtp.pre_fc_norm_embedding.weight", .shape = {hidden}},
      {.name = "mtp.pre_fc_norm_hidden.weight", .shape = {hidden}},
      {.name = "mtp.norm.weight", .shape = {hidden}}};
  // The block is a full-attention layer; Qwen3.5 stores its experts one by one.
  ModelConfig block = config;
  block.num_hidden_layers = 1;
  block.layer_types = {LayerType::kFullAttention};
  for (const auto& spec : WeightTable(block, ParallelOptions{}, ExpertForm::kPerExpert)) {
    if (spec.name.rfind("layers.", 0) != 0) continue;
    for (StoredTensor tensor : spec.stored) {
      tensor.name = "mtp." + tensor.name;
      tensors.push_back(std::move(tensor));
    }
  }
  tensors.push_back({.name = "model.visual.pos_embed.weight", .shape = {16, 32}});
  return tensors;
}

std::vector<TensorToWrite> TensorsToWrite(const CheckpointShape& shape) {
  std::vector<TensorToWrite> out;
  const uint64_t seed = shape.seed;
  const auto add = [&](const std::string& name, const StoredTensor& tensor) {
    out.push_back({.name = name,
                   .dtype = tensor.dtype,
                   .shape = tensor.shape,
                   .fill = [tensor, seed](int64_t first, int64_t count, void* data) {
                     FillRandom(seed, tensor, first, count, tensor.dtype, data);
                   }});
  };
  const auto table = WeightTable(shape.config, ParallelOptions{}, shape.experts);
  for (const StoredTensor& tensor : StoredTensors(shape.config, table)) {
    add(tensor.name == "lm_head.weight" ? tensor.name : shape.prefix + tensor.name, tensor);
  }
  if (shape.extra_tensors) {
    for (const StoredTensor& tensor : ExtraTensors(shape.config)) add(tensor.name, tensor);
  }
  return out;
}

absl::Status WriteText(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) return absl::ResourceExhaustedError(absl::StrCat("cannot write ", path.string()));
  return absl::OkStatus();
}

// Several files are filled in order, each up to its share of the bytes; names as Qwen writes them.
absl::Status WriteWeights(const CheckpointShape& shape,
                          const fs::path& directory,
                          ThreadPool& pool) {
  const std::vector<TensorToWrite> tensors = TensorsToWrite(shape);
  if (shape.num_files == 1) {
    return WriteSafetensors((directory / "model.safetensors").string(), tensors, pool);
  }
  const int64_t total = DataBytes(tensors);
  Json map = Json::object();
  std::map<std::string, std::string> sorted;
  size_t next = 0;
  int64_t written = 0;
  for (int file = 1; file <= shape.num_files; ++file) {
    const std::string name =
        absl::StrFormat("model.safetensors-%05d-of-%05d.safetensors", file, shape.num_files);
    std::vector<TensorToWrite> part;
    while (next < tensors.size() &&
           (file == shape.num_files || written < total * file / shape.num_files)) {
      written += DataBytes({tensors[next]});
      sorted[tensors[next].name] = name;
      part.push_back(tensors[next++]);
    }
    DS_RETURN_IF_ERROR(WriteSafetensors((directory / name).string(), part, pool));
  }
  for (const auto& [tensor, file] : sorted) map[tensor] = file;
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  return WriteText(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

// The last id of generation_config.json's eos_token_id: <|endoftext|>.
absl::StatusOr<int64_t> EosTokenId(const std::vector<EmbeddedFile>& tokenizer) {
  for (const EmbeddedFile& file : tokenizer) {
    if (file.name != "generation_config.json") continue;
    const Json json = Json::parse(file.bytes, nullptr, false);
    if (json.is_object() && json.contains("eos_token_id")) {
      const Json& ids = json["eos_token_id"];
      const Json& id = ids.is_array() && !ids.empty() ? ids.back() : ids;
      if (id.is_number_unsigned()) return id.get<int64_t>();
    }
    return absl::InvalidArgumentError("generation_config.json has no eos_token_id");
  }
  return absl::InvalidArgumentError("the tokenizer files lack generation_config.json");
}

// The tokenizer's largest id must have a row.
absl::Status CheckVocabulary(const CheckpointShape& shape,
                             const std::vector<EmbeddedFile>& tokenizer) {
  for (const EmbeddedFile& file : tokenizer) {
    if (file.name != "tokenizer.json") continue;
    const Json json = Json::parse(file.bytes, nullptr, false);
    if (!json.is_object() || !json.contains("model") || !json["model"].contains("vocab")) break;
    size_t tokens = json["model"]["vocab"].size();
    if (json.contains("added_tokens")) tokens += json["added_tokens"].size();
    if (static_cast<int64_t>(tokens) > shape.config.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the tokenizer has ", tokens, " tokens but shape ", shape.name, " has vocab_size ",
          shape.config.vocab_size, "; give a smaller tokenizer or a larger shape"));
    }
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("the tokenizer files lack a tokenizer.json with model.vocab");
}

bool IsCheckpointFile(const std::string& name) {
  return name == "config.json" || name == "model.safetensors.index.json" ||
         fs::path(name).extension() == ".safetensors" ||
         std::find(std::begin(kTokenizerFiles), std::end(kTokenizerFiles), name) !=
             std::end(kTokenizerFiles);
}

absl::Status PrepareFolder(const fs::path& directory, bool force) {
  std::error_code error;
  if (fs::exists(directory, error)) {
    if (!force) {
      return absl::AlreadyExistsError(absl::StrCat(
          directory.string(), " exists; choose another --output, or replace it with --force"));
    }
    for (const auto& entry : fs::directory_iterator(directory, error)) {
      if (IsCheckpointFile(entry.path().filename().string())) fs::remove(entry.path(), error);
    }
  }
  fs::create_directories(directory, error);
  if (!fs::is_directory(directory)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make the folder ", directory.string(), ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ConfigJson(const CheckpointShape& shape, int64_t eos_token_id) {
  const Names names = NamesOf(shape);
  Json text = TextConfig(shape, eos_token_id);
  Json root;
  root["architectures"] = {names.architecture};
  if (shape.nested) {
    root["model_type"] = names.model_type;
    root["text_config"] = std::move(text);
    root["tie_word_embeddings"] = shape.config.tie_word_embeddings;
  } else {
    root.update(text);
  }
  return root.dump(2) + "\n";
}

absl::StatusOr<std::vector<EmbeddedFile>> ReadTokenizerFiles(const std::string& directory) {
  std::vector<EmbeddedFile> files;
  for (const char* name : kTokenizerFiles) {
    const std::string path = directory + "/" + name;
    if (!IsFile(path)) continue;
    DS_ASSIGN_OR_RETURN(std::string bytes, ReadTextFile(path));
    files.push_back({name, std::move(bytes)});
  }
  if (files.empty()) {
    return absl::NotFoundError(absl::StrCat(
        directory, " has no tokenizer.json; give a folder that has one with --tokenizer"));
  }
  return files;
}

absl::Status MakeConfig(const CheckpointShape& shape,
                        const std::vector<EmbeddedFile>& tokenizer,
                        const std::string& directory,
                        bool force) {
  DS_RETURN_IF_ERROR(CheckVocabulary(shape, tokenizer));
  DS_ASSIGN_OR_RETURN(const int64_t eos, EosTokenId(tokenizer));
  DS_RETURN_IF_ERROR(PrepareFolder(directory, force));
  return WriteText(fs::path(directory) / "config.json", ConfigJson(shape, eos));
}

absl::Status MakeCheckpoint(const CheckpointShape& shape,
                            const std::vector<EmbeddedFile>& tokenizer,
                            const std::string& directory,
                            bool force,
                            ThreadPool& pool) {
  DS_RETURN_IF_ERROR(MakeConfig(shape, tokenizer, directory, force));
  for (const EmbeddedFile& file : tokenizer) {
    DS_RETURN_IF_ERROR(WriteText(fs::path(directory) / file.name, file.bytes));
  }
  return WriteWeights(shape, directory, pool);
}

absl::StatusOr<std::string> FolderDigest(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.is_regular_file()) names.push_back(entry.path().filename().string());
  }
  if (error || names.empty()) {
    return absl::NotFoundError(absl::StrCat("no files in ", directory, "; give a model folder"));
  }
  std::sort(names.begin(), names.end());
  Sha256 digest;
  std::vector<char> piece(kDigestPiece);
  for (const std::string& name : names) {
    DS_ASSIGN_OR_RETURN(const auto file,
                        RandomAccessFile::Open(absl::StrCat(directory, "/", name)));
    Sha256 content;
    for (int64_t offset = 0; offset < file->size();) {
      const int64_t bytes = std::min(static_cast<int64_t>(piece.size()), file->size() - offset);
      DS_RETURN_IF_ERROR(file->Read(offset, bytes, piece.data()));
      content.Update(piece.data(), static_cast<size_t>(bytes));
      offset += bytes;
    }
    digest.Update(absl::StrCat(content.Finish(), "  ", name, "\n"));
  }
  return digest.Finish();
}

}  // namespace deltaserve
