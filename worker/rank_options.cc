#include "worker/rank_options.h"

#include <unistd.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/flags.h"
#include "worker/comm/nccl_report.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

std::vector<std::string> EnvironmentOfProcess() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    variables.emplace_back(*variable);
  }
  return variables;
}

}  // namespace

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

absl::Status RankOptions::CheckDevice() const {
  const auto refuse = [&](const std::string& flag, const std::string& remedy) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": it means nothing with --device ", device, "; ", remedy));
  };
  if (device == "cuda") {
    if (threads != 0) return refuse(absl::StrCat("--threads is ", threads), "leave it out");
    if (cpu_isa != "auto") return refuse(absl::StrCat("--cpu-isa is ", cpu_isa), "leave it out");
    return absl::OkStatus();
  }
  if (communicator == "nccl") return refuse("--communicator is nccl", "use auto or mpi");
  if (ranks_per_gpu != 1) {
    return refuse(absl::StrCat("--ranks-per-gpu is ", ranks_per_gpu), "leave it out");
  }
  return cuda::ReadBackends(backends, device).status();
}

CommunicatorKind RankOptions::Communicator() const {
  if (communicator == "mpi") return CommunicatorKind::kMpi;
  return device == "cuda" ? CommunicatorKind::kNccl : CommunicatorKind::kHost;
}

absl::StatusOr<Quantization> RankOptions::WeightQuantization() const {
  if (quantize == "none") return Quantization::kNone;
  if (quantize != "int8") {
    return absl::InvalidArgumentError(
        absl::StrCat("--quantize is ", quantize, "; use none or int8"));
  }
  if (device == "cpu") return Quantization::kInt8;
  return absl::InvalidArgumentError(
      absl::StrCat("--quantize is int8: --device ", device,
                   " has no 8-bit weights; use --quantize none, or --device cpu"));
}

int RankOptions::RunAhead() const {
  return run_ahead == "1" || (run_ahead == "auto" && device == "cuda") ? 1 : 0;
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

void AddPlaceFlags(CommandLine& line, RankOptions* options) {
  const std::vector<std::string> variables = EnvironmentOfProcess();
  options->nccl_environment = NcclEnvironment(variables);
  for (absl::string_view variable : variables) {
    if (absl::ConsumePrefix(&variable, "NCCL_SOCKET_IFNAME=")) {
      options->nccl_socket_ifname = std::string(variable);
    }
  }
  line.Add("--device", &options->device, "Where ranks compute: cpu or cuda").OneOf({"cpu", "cuda"});
  line.Add("--communicator", &options->communicator,
           "What ranks exchange tensors over: auto (NCCL for cuda; for cpu shared memory where all "
           "are on one host, else MPI), mpi (from a GPU by way of host memory, slow) or nccl")
      .OneOf({"auto", "mpi", "nccl"});
  line.Add("--ranks-per-gpu", &options->ranks_per_gpu,
           "Ranks that may share a GPU, for tests: slow, and over NCCL only where each has a "
           "NCCL_HOSTID of its own")
      .In(1, 16);
  cuda::AddBackendFlags(line, &options->backends);
  line.Add("--cpu-isa", &options->cpu_isa,
           "Instruction set of the CPU's kernels, on all ranks the same: auto (the best that the "
           "processor has), x86-64-v3, x86-64-v4, x86-64-v4-vnni or armv8-a");
  line.Add("--threads", &options->threads,
           "Compute threads of a rank (cpu); 0: cores divided by the ranks on this host")
      .In(0, 1024);
  line.Add("--readers", &options->readers, "Threads that read weights").In(1, 64);
  line.Add("--control-network", &options->control_network,
           "Address or network (10.0.0.0/24) of rank 0's control link; empty: found by itself");
  line.Add("--log-level", &options->log_level, "debug, info, warn, error or off")
      .OneOf({"debug", "info", "warn", "error", "off"});
}

void AddRankFlags(CommandLine& line, RankOptions* options) {
  line.Add("--model", &options->model,
           "Model folder: config.json, *.safetensors and tokenizer files as published")
      .Required();
  line.Add("--load", &options->load,
           "checkpoint: read the folder's weights; random:SEED: draw them (needs config.json only; "
           "a router also needs the tokenizer's files)");
  line.Add("--moe", &options->moe,
           "How ranks share experts: tp splits each expert's width, ep whole experts")
      .OneOf({"tp", "ep"});
  line.Add("--linear-attention", &options->linear_attention,
           "Gated DeltaNet heads: sharded over ranks, or replicated on each")
      .OneOf({"sharded", "replicated"});
  line.Add("--quantize", &options->quantize,
           "Weights while loading: none keeps them as stored; int8 makes projections, experts and "
           "the head 8 bits (CPU only), half the memory and faster, with small errors")
      .OneOf({"none", "int8"});
  line.AddBytes("--kv-memory", &options->kv_memory,
                "Memory of a rank for keys and values, e.g. 512M or 8G (default 1G)");
  line.Add("--slots", &options->slots, "Sequences that run at once (each holds a state)")
      .In(1, kMaxSlots);
  line.Add("--token-budget", &options->token_budget,
           "Most prompt tokens a step (prompts are cut at multiples of 64); 0: from measured speed")
      .In(0, kMaxTokenBudget);
  line.Add("--run-ahead", &options->run_ahead,
           "Steps that the device may begin before the host knows what the one before sampled; "
           "auto: "
           "1 on cuda, 0 on cpu. An answer that a sampled token ends costs one step more")
      .OneOf({"auto", "0", "1"});
  line.Add("--max-queue", &options->max_queue, "Requests that may wait; more are refused")
      .In(1, 1 << 20);
  line.Add("--max-queue-tokens", &options->max_queue_tokens,
           "Prompt tokens that may wait, those of resumed answers too; a request beyond is refused "
           "unless it would wait alone")
      .In(1, int64_t{1} << 32);
  line.Add("--max-context", &options->max_context,
           "Most tokens of prompt and answer together; 0: what model and KV memory allow")
      .In(0);
  line.Add(
      "--record-plans", &options->record_plans,
      "File of rank 0, mode 0600, that gets every step's plan, prompts and answers among them, "
      "for deltaserve-replay; one that is there becomes FILE.previous. Off by default");
  line.Add("--record-ops", &options->record_ops,
           "Also record a checksum of each op's output, so that a replay can name the op; slower");
  AddPlaceFlags(line, options);
}

}  // namespace deltaserve
