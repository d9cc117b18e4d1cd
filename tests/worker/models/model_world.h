#pragma once

// Worlds of threads over real models that deltaserve-make_checkpoint writes, and the committed
// goldens.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/worker/engine/pretend_world.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve::test {

// How a world of a test is cut up.
struct Cut {
  int ranks = 1;
  MoeMode moe = MoeMode::kTensor;
  LinearAttentionMode linear_attention = LinearAttentionMode::kSharded;
  int64_t token_budget = 64;
  int threads_per_rank = 1;
  Quantization quantization = Quantization::kNone;
  int run_ahead = 0;
  bool over_shim = false;  // on the devices of the CUDA shim
  bool bf16 = false;       // on a device with bf16 numerics, out of the host's reach; one rank
};

// "ranks2_ep_replicated_budget64": a test's name.
std::string CutName(const Cut& cut);

// The folder of a golden model, made on first use below the build's test folder and kept for later
// tests; several processes may ask at once.
std::string GoldenFolder(const std::string& model);

// A world that serves the model of `folder` with 32 slots, 8 over the shim, and prompt logits.
std::unique_ptr<PretendWorld> StartModel(const std::string& folder, const Cut& cut);

// One prompt of a golden file, as tools/reference/README.md describes it.
struct GoldenPrompt {
  std::vector<int32_t> ids;
  std::vector<float> lse;
  std::vector<std::vector<int32_t>> top_ids;
  std::vector<std::vector<float>> top_logits;
  std::vector<int64_t> row_positions;
  std::vector<std::vector<float>> rows;
  std::vector<int32_t> greedy;
  std::vector<float> greedy_logprobs;
};
std::vector<GoldenPrompt> ReadGolden(const std::string& model);

// Every model of the manifest.
std::vector<std::string> GoldenModels();

}  // namespace deltaserve::test
