// PlanText and PlanJson of plan_report.h.

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/plan_report.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

// "1.50 GB (1503238553 bytes)"
std::string Bytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1'000'000'000) return absl::StrFormat("%.2f GB (%d bytes)", value / 1e9, bytes);
  if (bytes >= 1'000'000) return absl::StrFormat("%.2f MB (%d bytes)", value / 1e6, bytes);
  return absl::StrFormat("%d bytes", bytes);
}

std::string LowerName(DType dtype) { return absl::AsciiStrToLower(DTypeName(dtype)); }

const char* MoeName(const PlanReport& report) {
  return report.options.parallel.moe == MoeMode::kExpert ? "ep" : "tp";
}

const char* LinearName(const PlanReport& report) {
  const bool sharded = report.options.parallel.linear_attention == LinearAttentionMode::kSharded;
  return sharded ? "sharded" : "replicated";
}

void AppendPartition(const PlanReport& report, std::string& out) {
  const ModelConfig& config = report.config;
  const LocalSizes& local = report.local;
  absl::StrAppend(&out, "partition (a rank of ", report.options.parallel.ranks, ")\n");
  const auto row = [&](const char* name, int64_t mine, int64_t all, const std::string& note) {
    absl::StrAppendFormat(&out, "  %-34s %8d of %d%s\n", name, mine, all, note);
  };
  const std::string replicas =
      report.kv_replicas > 1 ? absl::StrCat(", each on ", report.kv_replicas, " ranks") : "";
  const std::string padded = report.padded_vocab_size == config.vocab_size
                                 ? ""
                                 : absl::StrCat(", padded to ", report.padded_vocab_size);
  row("vocabulary rows", local.vocab_rows, config.vocab_size, padded);
  row("query heads", local.num_heads, config.num_attention_heads, "");
  row("KV heads", local.num_kv_heads, config.num_key_value_heads, replicas);
  row("linear key heads", local.linear_num_key_heads, config.linear_num_key_heads, "");
  row("linear value heads", local.linear_num_value_heads, config.linear_num_value_heads, "");
  if (!config.is_moe()) {
    row("feed-forward width", local.intermediate_size, config.intermediate_size, "");
    return;
  }
  row("experts", local.num_experts, config.num_experts, "");
  row("width of an expert", local.moe_intermediate_size, config.moe_intermediate_size, "");
  row("width of the shared expert", local.shared_expert_intermediate_size,
      config.shared_expert_intermediate_size, "");
}

void AppendWeights(const PlanReport& report, std::string& out) {
  absl::StrAppend(&out, "weights (dtypes as published)\n");
  const auto row = [&](const WeightGroup& group) {
    absl::StrAppendFormat(&out, "  %-34s %10.3f M parameters, a rank %s\n", group.name,
                          static_cast<double>(group.num_parameters) / 1e6,
                          Bytes(group.bytes_a_rank));
  };
  for (const WeightGroup& group : report.weights) row(group);
  row(report.total);
}

void AppendMemory(const PlanReport& report, std::string& out) {
  const std::string kv = LowerName(report.options.numerics.kv);
  absl::StrAppend(&out, "memory of sequences (a rank; ", report.options.device, " numerics: ",
                  kv == "f32" ? "KV and state f32" : absl::StrCat("KV ", kv, ", state f32"), ")\n");
  const auto row = [&](const char* name, const std::string& value) {
    absl::StrAppendFormat(&out, "  %-34s %s\n", name, value);
  };
  row("KV a token", Bytes(report.kv_bytes_a_token));
  row("state a sequence", absl::StrCat(Bytes(report.state_bytes_a_sequence()), ": recurrent ",
                                       Bytes(report.recurrent_bytes_a_sequence), ", conv ",
                                       Bytes(report.conv_bytes_a_sequence)));
  row("KV memory", absl::StrCat(Bytes(report.options.kv_memory), ", ", report.kv_blocks,
                                " blocks of 64 tokens"));
  row("state of all slots",
      absl::StrCat(Bytes(report.state_bytes_a_sequence() * report.options.slots)));
  absl::StrAppend(&out, "sequences at once\n");
  absl::StrAppendFormat(&out, "  %-34s %d\n", "slots allow", report.options.slots);
  for (const KvConcurrency& entry : report.kv_concurrency) {
    absl::StrAppendFormat(&out, "  %-34s %d\n",
                          absl::StrCat("KV allows at ", entry.context, " tokens each"),
                          entry.sequences);
  }
}

void AppendCollectives(const PlanReport& report, std::string& out) {
  absl::StrAppend(&out, "collectives of a step (sums in ",
                  LowerName(report.options.numerics.reduction), "; bytes of one rank)\n");
  for (const Collective& entry : report.collectives) {
    if (entry.times_a_step == 0) continue;
    absl::StrAppendFormat(&out, "  %-42s %-16s %3d x %d bytes a %s\n", entry.what, entry.operation,
                          entry.times_a_step, entry.bytes_a_row,
                          entry.scored_rows_only ? "scored row" : "row");
  }
}

Json GroupJson(const WeightGroup& group) {
  return {{"name", group.name},
          {"num_parameters", group.num_parameters},
          {"bytes", group.bytes},
          {"bytes_a_rank", group.bytes_a_rank}};
}

Json LocalJson(const PlanReport& report) {
  const LocalSizes& local = report.local;
  return {{"vocab_rows", local.vocab_rows},
          {"padded_vocab_size", report.padded_vocab_size},
          {"num_heads", local.num_heads},
          {"num_kv_heads", local.num_kv_heads},
          {"kv_replicas", report.kv_replicas},
          {"linear_num_key_heads", local.linear_num_key_heads},
          {"linear_num_value_heads", local.linear_num_value_heads},
          {"intermediate_size", local.intermediate_size},
          {"num_experts", local.num_experts},
          {"moe_intermediate_size", local.moe_intermediate_size},
          {"shared_expert_intermediate_size", local.shared_expert_intermediate_size}};
}

}  // namespace

std::string PlanText(const PlanReport& report) {
  std::string out =
      absl::StrCat(report.config.model_type, ", ", report.config.num_hidden_layers,
                   " layers, hidden_size ", report.config.hidden_size, "; ",
                   report.options.parallel.ranks, " ranks, linear attention ", LinearName(report));
  if (report.config.is_moe()) absl::StrAppend(&out, ", moe ", MoeName(report));
  absl::StrAppend(&out, "\n");
  AppendPartition(report, out);
  AppendWeights(report, out);
  AppendMemory(report, out);
  AppendCollectives(report, out);
  return out;
}

std::string PlanJson(const PlanReport& report) {
  Json json;
  json["model_type"] = report.config.model_type;
  json["ranks"] = report.options.parallel.ranks;
  json["legal_ranks"] = ShardPlan::LegalDegrees(report.config, report.options.parallel);
  json["moe"] = MoeName(report);
  json["linear_attention"] = LinearName(report);
  const Numerics& numerics = report.options.numerics;
  json["numerics"] = {{"device", report.options.device},
                      {"activation", LowerName(numerics.activation)},
                      {"kv", LowerName(numerics.kv)},
                      {"state", "f32"},
                      {"reduction", LowerName(numerics.reduction)}};
  json["local"] = LocalJson(report);
  json["weights"] = Json::array();
  for (const WeightGroup& group : report.weights) json["weights"].push_back(GroupJson(group));
  json["weights_total"] = GroupJson(report.total);
  json["kv_bytes_per_token"] = report.kv_bytes_a_token;
  json["kv_memory"] = report.options.kv_memory;
  json["kv_blocks"] = report.kv_blocks;
  json["recurrent_bytes_per_sequence"] = report.recurrent_bytes_a_sequence;
  json["conv_bytes_per_sequence"] = report.conv_bytes_a_sequence;
  json["state_bytes_per_sequence"] = report.state_bytes_a_sequence();
  json["slots"] = report.options.slots;
  json["kv_concurrency"] = Json::array();
  for (const KvConcurrency& entry : report.kv_concurrency) {
    json["kv_concurrency"].push_back({{"context", entry.context}, {"sequences", entry.sequences}});
  }
  json["collectives"] = Json::array();
  for (const Collective& entry : report.collectives) {
    json["collectives"].push_back({{"what", entry.what},
                                   {"operation", entry.operation},
                                   {"times_a_step", entry.times_a_step},
                                   {"bytes_a_row", entry.bytes_a_row},
                                   {"scored_rows_only", entry.scored_rows_only}});
  }
  return json.dump(2) + "\n";
}

}  // namespace deltaserve
