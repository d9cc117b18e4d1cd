#include "tests/worker/models/model_world.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/cuda/shim/shim_device.h"
#include "kernels/reference/narrow_device.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/text_files.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/checkpoint/weight_table.h"

namespace deltaserve::test {
namespace {

using nlohmann::json;

std::string DataPath(const std::string& name) {
  return std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/goldens/" + name;
}

json ReadJson(const std::string& path) {
  std::ifstream in(path);
  DS_CHECK(in.good()) << path;
  return json::parse(in);
}

// One rank's model, read as the worker reads it.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder,
                                                 const Cut& cut,
                                                 World& world,
                                                 Device& device) {
  DS_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(folder));
  const ParallelOptions options{
      .ranks = cut.ranks, .moe = cut.moe, .linear_attention = cut.linear_attention};
  DS_ASSIGN_OR_RETURN(const ShardPlan plan, ShardPlan::Create(config, options, world.info().rank));
  LoaderOptions loader_options;
  loader_options.num_readers = 1;
  DS_ASSIGN_OR_RETURN(auto loader, OpenCheckpoint(folder, config, plan,
                                                  WeightTable(config, options), loader_options));
  return CreateModel(config, plan, device, *loader);
}

}  // namespace

std::string CutName(const Cut& cut) {
  return absl::StrCat(
      "ranks", cut.ranks, cut.moe == MoeMode::kExpert ? "_ep" : "_tp",
      cut.linear_attention == LinearAttentionMode::kReplicated ? "_replicated" : "_sharded",
      "_budget", cut.token_budget,
      cut.threads_per_rank > 1 ? absl::StrCat("_threads", cut.threads_per_rank) : "",
      cut.quantization == Quantization::kInt8 ? "_int8" : "", cut.bf16 ? "_bf16" : "",
      cut.over_shim ? "_shim" : "", cut.run_ahead > 0 ? "_ahead" : "");
}

std::string GoldenFolder(const std::string& model) {
  const std::string root = std::string(DELTASERVE_BIN_DIR) + "/../tests/goldens";
  std::string folder = root + "/" + model;
  if (std::filesystem::exists(folder + "/config.json")) return folder;
  std::filesystem::create_directories(root);
  const std::string mine = absl::StrCat(root, "/making-", model, "-", getpid());
  const std::string command =
      absl::StrCat(DELTASERVE_BIN_DIR, "/deltaserve-make_checkpoint --golden ", model, " --output ",
                   mine, " > /dev/null");
  DS_CHECK(std::system(command.c_str()) == 0) << command;
  std::error_code error;  // another process may have been faster: then ours goes
  std::filesystem::rename(mine, folder, error);
  if (error) std::filesystem::remove_all(mine);
  DS_CHECK(std::filesystem::exists(folder + "/config.json")) << folder;
  return folder;
}

std::unique_ptr<PretendWorld> StartModel(const std::string& folder, const Cut& cut) {
  const auto config = LoadModelConfig(folder);
  DS_CHECK(config.ok()) << config.status();
  const auto text = ReadTextFiles(folder, *config);
  DS_CHECK(text.ok()) << text.status();
  PretendOptions options;
  options.ranks = cut.ranks;
  options.threads_per_rank = cut.threads_per_rank;
  options.quantization = cut.quantization;
  if (cut.bf16) {
    options.wrap_device = [](std::unique_ptr<Device> device) {
      return reference::CreateNarrowDevice(std::move(device));
    };
  }
  if (cut.over_shim) {
    options.make_device = [](int rank) {
      return cuda::CreateShimDevice(static_cast<uint64_t>(rank) + 1);
    };
  }
  options.engine.slots = cut.over_shim ? 8 : 32;
  options.engine.kv_memory = int64_t{cut.bf16 ? 4 : 128} << 20;  // that device copies all of it
  options.engine.token_budget = cut.token_budget;
  options.engine.num_tokens = text->num_tokens;
  options.engine.prompt_logits = true;
  options.engine.run_ahead = cut.run_ahead;
  auto world = PretendWorld::Start(options, [folder, cut](World& ranks, Device& device) {
    return LoadModel(folder, cut, ranks, device);
  });
  DS_CHECK(world.ok()) << world.status();
  return *std::move(world);
}

std::vector<GoldenPrompt> ReadGolden(const std::string& model) {
  const json golden = ReadJson(DataPath(model + ".json"));
  const auto vocab = golden["vocab_size"].get<size_t>();
  std::ifstream rows(DataPath(model + ".f32"), std::ios::binary);
  DS_CHECK(rows.good()) << model;
  std::vector<GoldenPrompt> prompts;
  for (const json& item : golden["prompts"]) {
    GoldenPrompt& prompt = prompts.emplace_back();
    item["ids"].get_to(prompt.ids);
    item["lse"].get_to(prompt.lse);
    item["top_ids"].get_to(prompt.top_ids);
    item["top_logits"].get_to(prompt.top_logits);
    item["row_positions"].get_to(prompt.row_positions);
    item["greedy"].get_to(prompt.greedy);
    item["greedy_logprobs"].get_to(prompt.greedy_logprobs);
    rows.seekg(static_cast<std::streamoff>(item["rows_offset"].get<size_t>() * sizeof(float)));
    for (size_t i = 0; i < prompt.row_positions.size(); ++i) {
      std::vector<float>& row = prompt.rows.emplace_back(vocab);
      rows.read(reinterpret_cast<char*>(row.data()),
                static_cast<std::streamsize>(vocab * sizeof(float)));
    }
    DS_CHECK(rows.good()) << model << ".f32 is too short";
  }
  return prompts;
}

std::vector<std::string> GoldenModels() {
  std::vector<std::string> models;
  const json manifest = ReadJson(DataPath("manifest.json"));
  for (const json& item : manifest["models"]) {
    models.push_back(item["model"]);
  }
  return models;
}

}  // namespace deltaserve::test
