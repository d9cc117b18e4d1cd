#include "worker/rank_options.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/flags.h"

namespace deltaserve {

absl::StatusOr<ParallelOptions> RankOptions::Parallel(int ranks) const {
  ParallelOptions parallel{.ranks = ranks};
  if (moe != "tp" && moe != "ep") {
    return absl::InvalidArgumentError(absl::StrCat("--moe is ", moe, "; use tp or ep"));
  }
  parallel.moe = moe == "ep" ? MoeMode::kExpert : MoeMode::kTensor;
  if (linear_attention != "sharded" && linear_attention != "replicated") {
    return absl::InvalidArgumentError(
        absl::StrCat("--linear-attention is ", linear_attention, "; use sharded or replicated"));
  }
  parallel.linear_attention = linear_attention == "replicated" ? LinearAttentionMode::kReplicated
                                                               : LinearAttentionMode::kSharded;
  return parallel;
}

absl::StatusOr<std::optional<uint64_t>> RankOptions::RandomSeed() const {
  if (load == "checkpoint") return std::optional<uint64_t>();
  constexpr char kPrefix[] = "random:";
  uint64_t seed = 0;
  if (load.rfind(kPrefix, 0) == 0 && absl::SimpleAtoi(load.substr(sizeof(kPrefix) - 1), &seed)) {
    return std::optional<uint64_t>(seed);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--load is ", load, "; use checkpoint, or random:SEED with a whole number"));
}

void AddRankFlags(CLI::App& app, RankOptions* options) {
  app.add_option("--model", options->model,
                 "Model folder: config.json, *.safetensors and tokenizer files as published")
      ->required();
  app.add_option("--device", options->device, "Where ranks compute: cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option(
         "--load", options->load,
         "checkpoint: read the folder's weights; random:SEED: draw them (needs config.json only)")
      ->capture_default_str();
  app.add_option("--moe", options->moe,
                 "How ranks share experts: tp splits each expert's width, ep whole experts")
      ->check(CLI::IsMember({"tp", "ep"}))
      ->capture_default_str();
  app.add_option("--linear-attention", options->linear_attention,
                 "Gated DeltaNet heads: sharded over ranks, or replicated on each")
      ->check(CLI::IsMember({"sharded", "replicated"}))
      ->capture_default_str();
  AddBytesOption(app, "--kv-memory", &options->kv_memory,
                 "Memory of a rank for keys and values, e.g. 512M or 8G (default 1G)");
  app.add_option("--slots", options->slots, "Sequences that run at once (each holds a state)")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option(
         "--token-budget", options->token_budget,
         "Most prompt tokens a step (prompts are cut at multiples of 64); 0: from measured speed")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-queue", options->max_queue, "Requests that may wait; more are refused")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-context", options->max_context,
                 "Most tokens of prompt and answer together; 0: what model and KV memory allow")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--threads", options->threads,
                 "Compute threads of a rank; 0: cores divided by the ranks on this host")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--readers", options->readers, "Threads that read weights")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option(
      "--control-network", options->control_network,
      "Address or network (10.0.0.0/24) of rank 0's control link; empty: found by itself");
  app.add_option("--log-level", options->log_level, "debug, info, warn, error or off")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
}

}  // namespace deltaserve
