#pragma once

// Small models and checkpoint folders for tests: every stored tensor can be changed before it is
// written.

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/random_values.h"
#include "worker/checkpoint/safetensors_writer.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/checkpoint/weight_table.h"

namespace deltaserve {

inline constexpr uint64_t kFixtureSeed = 7;

// Sizes that tell axes apart (dk != dv, head sizes unlike hidden_size), 4 key heads so
// that 1, 2 and 4 ranks work, 2 KV heads so that 4 ranks replicate, an odd vocabulary.
inline ModelConfig TinyConfig(ModelFamily family) {
  ModelConfig config;
  config.family = family;
  config.model_type = "tiny";
  config.vocab_size = 71;
  config.hidden_size = 12;
  config.layer_types = {LayerType::kLinearAttention, LayerType::kFullAttention};
  config.num_hidden_layers = 2;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  config.head_dim = 10;
  config.rotary_dim = 4;
  config.rope_theta = 1e4;
  config.rms_norm_eps = 1e-6;
  config.max_position_embeddings = 512;
  config.linear_num_key_heads = 4;
  config.linear_num_value_heads = 8;
  config.linear_key_head_dim = 4;
  config.linear_value_head_dim = 6;
  config.linear_conv_kernel_dim = 4;
  if (family == ModelFamily::kQwen35) {
    config.intermediate_size = 20;
  } else {
    config.num_experts = 8;
    config.num_experts_per_tok = 2;
    config.moe_intermediate_size = 8;
    config.shared_expert_intermediate_size = 16;
  }
  return config;
}

// A stored tensor with its bytes.
struct FileTensor {
  std::string name;  // as in the file
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

inline std::string RandomBytes(const StoredTensor& tensor, DType dtype) {
  const int64_t count = NumElements(tensor.shape);
  std::string bytes(static_cast<size_t>(count) * DTypeSize(dtype), '\0');
  FillRandom(kFixtureSeed, tensor, 0, count, dtype, bytes.data());
  return bytes;
}

// All tensors of the model as a release would store them, from kFixtureSeed.
inline std::vector<FileTensor> FileTensors(const ModelConfig& config,
                                           ExpertForm experts,
                                           const std::string& prefix = "model.") {
  std::vector<FileTensor> tensors;
  const auto table = WeightTable(config, ParallelOptions{}, experts);
  for (const StoredTensor& tensor : StoredTensors(config, table)) {
    tensors.push_back({tensor.name == "lm_head.weight" ? tensor.name : prefix + tensor.name,
                       DTypeName(tensor.dtype), tensor.shape, RandomBytes(tensor, tensor.dtype)});
  }
  return tensors;
}

inline FileTensor& Named(std::vector<FileTensor>& tensors, const std::string& name) {
  for (FileTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return tensors.front();
}

inline void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good()) << path;
}

// Eight bytes of length, then `header`, then `data`.
inline std::string WithLength(const std::string& header, const std::string& data = "") {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.push_back(static_cast<char>((static_cast<uint64_t>(header.size()) >> (8 * i)) & 0xff));
  }
  return bytes + header + data;
}

inline std::string SafetensorsBytes(const std::vector<FileTensor>& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::string data;
  for (const FileTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return WithLength(header.dump(), data);
}

// An empty folder of this test's own.
inline std::string EmptyFolder() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string("deltaserve_") + test->test_suite_name() + "_" + test->name();
  for (char& c : name) c = c == '/' ? '_' : c;
  const auto path = std::filesystem::path(testing::TempDir()) / name;
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path.string();
}

// One file, without index.
inline void WriteSingle(const std::string& directory, const std::vector<FileTensor>& tensors) {
  WriteBytes(directory + "/model.safetensors", SafetensorsBytes(tensors));
}

// `num_files` files with an index, tensors dealt in turn.
inline void WriteIndexed(const std::string& directory,
                         const std::vector<FileTensor>& tensors,
                         size_t num_files) {
  nlohmann::json map;
  for (size_t file = 0; file < num_files; ++file) {
    const std::string name = "weights-" + std::to_string(file) + ".safetensors";
    std::vector<FileTensor> part;
    for (size_t i = file; i < tensors.size(); i += num_files) {
      part.push_back(tensors[i]);
      map[tensors[i].name] = name;
    }
    WriteBytes(absl::StrCat(directory, "/", name), SafetensorsBytes(part));
  }
  WriteBytes(directory + "/model.safetensors.index.json",
             nlohmann::json({{"weight_map", map}}).dump());
}

inline std::string BytesOf(const LocalWeight& weight) {
  return std::string(static_cast<const char*>(weight.data.data()), weight.data.bytes());
}

// Opens and loads `directory` as one rank would.
inline absl::StatusOr<std::unique_ptr<WeightLoader>> Load(const std::string& directory,
                                                          const ModelConfig& config,
                                                          const ParallelOptions& options,
                                                          int rank) {
  auto plan = ShardPlan::Create(config, options, rank);
  if (!plan.ok()) return plan.status();
  auto loader = OpenCheckpoint(directory, config, *plan, WeightTable(config, options),
                               LoaderOptions{.num_readers = 3});
  if (!loader.ok()) return loader.status();
  const absl::Status status = (*loader)->LoadAll();
  if (!status.ok()) return status;
  return loader;
}

}  // namespace deltaserve
