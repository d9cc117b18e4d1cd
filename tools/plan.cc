// deltaserve-plan: what a world of N ranks would hold and exchange, without loading a weight.

#include <cstdio>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/plan_report.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/checkpoint/weight_table.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

struct Options {
  std::string model;
  std::string moe = "tp";
  std::string linear_attention = "sharded";
  std::string quantize = "none";
  PlanReportOptions report;
  bool json = false;
  bool fingerprint = false;
};

void AddFlags(CommandLine& line, Options& options) {
  line.Add("model", &options.model, "model folder, or a config.json").Required();
  line.Add("--ranks", &options.report.parallel.ranks, "ranks of the world");
  line.Add("--moe", &options.moe, "how ranks share experts: tp or ep").OneOf({"tp", "ep"});
  line.Add("--linear-attention", &options.linear_attention,
           "Gated DeltaNet heads: sharded or replicated")
      .OneOf({"sharded", "replicated"});
  line.Add("--quantize", &options.quantize,
           "weights as a rank keeps them: none (as stored) or int8")
      .OneOf({"none", "int8"});
  line.Add("--device", &options.report.device,
           "what the ranks run on: cpu (keys, values and sums in f32) or cuda (in bf16)")
      .OneOf({"cpu", "cuda"});
  line.AddBytes("--kv-memory", &options.report.kv_memory,
                "bytes of a rank for keys and values, e.g. 512M or 8G (default 1G)");
  line.Add("--slots", &options.report.slots, "sequences that run at once").In(1, kMaxSlots);
  line.Add("--json", &options.json, "print JSON");
  line.Add("--fingerprint", &options.fingerprint,
           "print only the weights fingerprint of a model folder");
}

absl::StatusOr<std::string> Fingerprint(const Options& options, const ModelConfig& config) {
  DS_ASSIGN_OR_RETURN(const ShardPlan plan, ShardPlan::Create(config, ParallelOptions{}, 0));
  DS_ASSIGN_OR_RETURN(const auto loader,
                      OpenCheckpoint(options.model, config, plan,
                                     WeightTable(config, ParallelOptions{}), LoaderOptions{}));
  return absl::StrCat(loader->fingerprint(), "\n");
}

absl::StatusOr<std::string> Answer(Options& options) {
  if (std::error_code error; !std::filesystem::exists(options.model, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model is ", options.model,
                     ": there is no such file; name a model folder or a config.json"));
  }
  DS_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(options.model));
  for (const std::string& warning : config.warnings) LogWarning("{}", warning);
  if (options.fingerprint) return Fingerprint(options, config);
  ParallelOptions& parallel = options.report.parallel;
  parallel.moe = options.moe == "ep" ? MoeMode::kExpert : MoeMode::kTensor;
  parallel.linear_attention = options.linear_attention == "replicated"
                                  ? LinearAttentionMode::kReplicated
                                  : LinearAttentionMode::kSharded;
  options.report.quantization =
      options.quantize == "int8" ? Quantization::kInt8 : Quantization::kNone;
  options.report.numerics = options.report.device == "cuda" ? kBF16Numerics : kF32Numerics;
  DS_ASSIGN_OR_RETURN(const PlanReport report, MakePlanReport(config, options.report));
  return options.json ? PlanJson(report) : PlanText(report);
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) {
  deltaserve::Options options;
  deltaserve::CommandLine flags("plan",
                                "Prints how N ranks would share a model, what each would hold and "
                                "what a step exchanges, without loading a weight.");
  deltaserve::AddFlags(flags, options);
  if (const auto code = flags.Parse(argc, argv)) return *code;
  deltaserve::InitLogging("warn", "plan");
  const auto answer = deltaserve::Answer(options);
  if (!answer.ok()) return flags.Refuse(answer.status());
  std::fputs(answer->c_str(), stdout);
  return deltaserve::kExitOk;
}
