#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/run_tool.h"
#include "tools/plan_report.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

std::string ConfigPath(const std::string& name) {
  return std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/configs/" + name + ".json";
}

ToolResult RunPlan(const std::vector<std::string>& arguments) { return RunTool("plan", arguments); }

PlanReport Report(const std::string& name, const ParallelOptions& parallel = {}) {
  const auto config = LoadModelConfig(ConfigPath(name));
  EXPECT_TRUE(config.ok()) << config.status();
  const auto report = MakePlanReport(*config, {.parallel = parallel});
  EXPECT_TRUE(report.ok()) << report.status();
  return *report;
}

// The table of spec 4: recurrent bytes of all layers in f32; conv and KV in bf16.
struct StateRow {
  const char* name;
  int64_t recurrent, conv_bf16, kv_bf16;
};

const StateRow kStateRows[] = {{"0.8b", 18874368, 663552, 12288},
                               {"2b", 18874368, 663552, 12288},
                               {"4b", 50331648, 1179648, 32768},
                               {"9b", 50331648, 1179648, 32768},
                               {"27b", 150994944, 2949120, 65536},
                               {"35b-a3b", 62914560, 1474560, 20480},
                               {"122b-a10b", 150994944, 2654208, 24576},
                               {"397b-a17b", 188743680, 3317760, 30720},
                               {"qwen3-next-80b-a3b", 75497472, 1769472, 24576}};

TEST(PlanReportTest, StateAndKvAreThoseOfTheSpecificationAtF32) {
  for (const StateRow& row : kStateRows) {
    SCOPED_TRACE(row.name);
    const PlanReport one = Report(row.name);
    EXPECT_EQ(one.recurrent_bytes_a_sequence, row.recurrent);
    EXPECT_EQ(one.conv_bytes_a_sequence, 2 * row.conv_bf16);
    EXPECT_EQ(one.kv_bytes_a_token, 2 * row.kv_bf16);
    const PlanReport eight = Report(row.name, {.ranks = 8});
    EXPECT_EQ(eight.state_bytes_a_sequence() * 8, one.state_bytes_a_sequence());
    // KV is shared by min(ranks, KV heads) ranks and then stops shrinking.
    EXPECT_EQ(eight.kv_bytes_a_token * std::min<int64_t>(8, one.config.num_key_value_heads),
              one.kv_bytes_a_token);
  }
}

TEST(PlanReportTest, OneRankHoldsTheWholeModel) {
  for (const StateRow& row : kStateRows) {
    const PlanReport report = Report(row.name);
    // On a CPU a tied head is packed beside the embedding.
    const int64_t head = report.config.tie_word_embeddings
                             ? report.padded_vocab_size * report.config.hidden_size * 2
                             : 0;
    EXPECT_EQ(report.total.bytes_a_rank, report.total.bytes + head) << row.name;
    const auto on_gpu = MakePlanReport(report.config, {.device = "cuda"});
    EXPECT_EQ(on_gpu->total.bytes_a_rank, report.total.bytes) << row.name;
    int64_t parts = 0;
    for (const WeightGroup& group : report.weights) parts += group.bytes;
    EXPECT_EQ(parts, report.total.bytes);
  }
}

TEST(PlanReportTest, RanksShareAllButReplicatedWeights) {
  const PlanReport report = Report("35b-a3b", {.ranks = 8});
  for (const WeightGroup& group : report.weights) {
    SCOPED_TRACE(group.name);
    if (group.name == "norms") {
      EXPECT_EQ(group.bytes_a_rank, group.bytes);
    } else if (group.name == "routed experts" || group.name == "embedding") {
      EXPECT_EQ(group.bytes_a_rank * 8, group.bytes);
    } else {
      EXPECT_GE(group.bytes_a_rank * 8, group.bytes);
      EXPECT_LT(group.bytes_a_rank, group.bytes);
    }
  }
}

TEST(PlanReportTest, CountsTheBlocksAndSequencesThatKvMemoryHolds) {
  const auto config = LoadModelConfig(ConfigPath("0.8b"));
  // 24,576 bytes a token, 64 tokens a block.
  const auto report =
      MakePlanReport(*config, {.kv_memory = 100 * 64 * 24576 + 5, .contexts = {64, 65, 3200}});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->kv_blocks, 100);
  EXPECT_EQ(report->kv_concurrency[0].sequences, 100);
  EXPECT_EQ(report->kv_concurrency[1].sequences, 50);
  EXPECT_EQ(report->kv_concurrency[2].sequences, 2);
  EXPECT_EQ(report->kv_concurrency[3].context, 262144);
  EXPECT_EQ(report->kv_concurrency[3].sequences, 0);
}

// Spec 5.4: one after the embedding, two a layer; a replicated mixer needs none.
TEST(PlanReportTest, CountsTheCollectivesOfAStep) {
  const auto reductions = [](const PlanReport& report) {
    int64_t count = 0;
    for (const Collective& entry : report.collectives) {
      if (entry.operation != "all-reduce") continue;
      EXPECT_EQ(entry.bytes_a_row, 4 * report.config.hidden_size);
      count += entry.times_a_step;
    }
    return count;
  };
  EXPECT_EQ(reductions(Report("27b", {.ranks = 2})), 1 + 2 * 64);
  EXPECT_EQ(
      reductions(Report("27b", {.ranks = 2, .linear_attention = LinearAttentionMode::kReplicated})),
      1 + 2 * 16 + 48);
}

TEST(PlanToolTest, AnswersForAllPublishedSizesFromABareConfig) {
  for (const StateRow& row : kStateRows) {
    SCOPED_TRACE(row.name);
    const ToolResult result = RunPlan({ConfigPath(row.name), "--ranks", "4", "--json"});
    ASSERT_EQ(result.code, 0) << result.output;
    const auto json = nlohmann::json::parse(result.output, nullptr, false);
    ASSERT_TRUE(json.is_object()) << result.output;
    EXPECT_EQ(json["ranks"], 4);
    EXPECT_EQ(json["recurrent_bytes_per_sequence"], row.recurrent / 4);
    EXPECT_EQ(json["weights_total"]["bytes_a_rank"],
              Report(row.name, {.ranks = 4}).total.bytes_a_rank);
    EXPECT_EQ(RunPlan({ConfigPath(row.name), "--ranks", "4"}).code, 0);
  }
}

TEST(PlanToolTest, TellsModesPoolsAndNumericsInItsText) {
  const ToolResult result =
      RunPlan({ConfigPath("35b-a3b"), "--ranks", "4", "--moe", "ep", "--linear-attention",
               "replicated", "--kv-memory", "8G", "--slots", "3"});
  ASSERT_EQ(result.code, 0) << result.output;
  for (const char* part : {"4 ranks, linear attention replicated, moe ep", "64 of 256",
                           "1 of 2, each on 2 ranks", "8589934592 bytes", "KV and state f32",
                           "slots allow                        3", "all-reduce"}) {
    EXPECT_THAT(result.output, HasSubstr(part));
  }
}

TEST(PlanToolTest, CountsKeysValuesAndSumsInTheDtypesOfTheDevice) {
  for (const StateRow& row : kStateRows) {
    SCOPED_TRACE(row.name);
    const PlanReport cpu = Report(row.name);
    const auto cuda = MakePlanReport(cpu.config, {.device = "cuda", .numerics = kBF16Numerics});
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    EXPECT_EQ(cuda->kv_bytes_a_token, row.kv_bf16);
    EXPECT_EQ(cuda->kv_blocks, 2 * cpu.kv_blocks + cuda->kv_blocks % 2);
    EXPECT_EQ(cuda->state_bytes_a_sequence(), cpu.state_bytes_a_sequence());
    for (size_t i = 0; i < cpu.collectives.size(); ++i) {
      const Collective& entry = cuda->collectives[i];
      EXPECT_EQ(entry.bytes_a_row * (entry.operation == "all-reduce" ? 2 : 1),
                cpu.collectives[i].bytes_a_row)
          << entry.what;
    }
  }
  const ToolResult json = RunPlan({ConfigPath("0.8b"), "--device", "cuda", "--json"});
  ASSERT_EQ(json.code, 0) << json.output;
  EXPECT_EQ(nlohmann::json::parse(json.output)["numerics"],
            nlohmann::json({{"device", "cuda"},
                            {"activation", "bf16"},
                            {"kv", "bf16"},
                            {"state", "f32"},
                            {"reduction", "bf16"}}));
  EXPECT_THAT(RunPlan({ConfigPath("0.8b"), "--device", "cuda"}).output,
              HasSubstr("cuda numerics: KV bf16, state f32"));
}

TEST(PlanToolTest, RefusesWhatCannotBeWithCode64) {
  const std::pair<std::vector<std::string>, const char*> rows[] = {
      {{}, "model"},
      {{ConfigPath("35b-a3b"), "--ranks", "3"},
       "num_attention_heads is 16: 3 ranks cannot share it; use 1, 2, 4, 8 or 16 ranks"},
      {{ConfigPath("35b-a3b"), "--ranks", "0"}, "ranks is 0"},
      {{ConfigPath("0.8b"), "--ranks", "16"}, "use 1, 2, 4 or 8 ranks"},
      {{ConfigPath("none")}, "there is no such file; name a model folder or a config.json"},
      {{ConfigPath("0.8b"), "--moe", "pp"}, "--moe"},
      {{ConfigPath("0.8b"), "--kv-memory", "0"}, "--kv-memory"},
      {{ConfigPath("0.8b"), "--slots", "0"}, "--slots"},
      {{ConfigPath("0.8b"), "--fingerprint"}, "is not a folder; give a model folder"},
  };
  for (const auto& [arguments, message] : rows) {
    const ToolResult result = RunPlan(arguments);
    EXPECT_EQ(result.code, 64) << message;
    EXPECT_THAT(result.output, HasSubstr(message));
  }
}

TEST(PlanToolTest, PrintsOneFingerprintForOneModel) {
  const test::TempDir folder;
  const auto fingerprint = [&](const std::string& seed) {
    const std::string path = folder / seed;
    const ToolResult made =
        RunTool("make_checkpoint", {"--shape", "tiny-dense", "--seed", seed, "--output", path});
    EXPECT_EQ(made.code, 0) << made.output;
    return RunPlan({path, "--fingerprint"}).output;
  };
  const std::string one = fingerprint("1");
  EXPECT_THAT(one, testing::MatchesRegex("[0-9a-f]+\n"));
  EXPECT_EQ(one.size(), 65U);
  EXPECT_EQ(RunPlan({folder / "1", "--fingerprint"}).output, one);
  EXPECT_NE(fingerprint("2"), one);
}

}  // namespace
}  // namespace deltaserve
