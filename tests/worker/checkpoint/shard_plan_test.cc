#include "worker/checkpoint/shard_plan.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/checkpoint/checkpoint_fixture.h"

namespace deltaserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr ModelFamily kFamilies[] = {ModelFamily::kQwen35, ModelFamily::kQwen35Moe,
                                     ModelFamily::kQwen3Next};

ModelConfig Published(const std::string& name) {
  const auto config =
      LoadModelConfig(std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/configs/" + name + ".json");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

ShardPlan Plan(const ModelConfig& config, const ParallelOptions& options, int rank = 0) {
  auto plan = ShardPlan::Create(config, options, rank);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *plan;
}

std::string Refusal(const ModelConfig& config, const ParallelOptions& options) {
  return std::string(ShardPlan::Create(config, options, 0).status().message());
}

std::vector<ParallelOptions> AllModes(int ranks) {
  std::vector<ParallelOptions> all;
  for (const MoeMode moe : {MoeMode::kTensor, MoeMode::kExpert}) {
    for (const auto linear : {LinearAttentionMode::kSharded, LinearAttentionMode::kReplicated}) {
      all.push_back({.ranks = ranks, .moe = moe, .linear_attention = linear});
    }
  }
  return all;
}

TEST(ShardPlanTest, GivesTheLocalSizesOfA35BAtFourRanks) {
  const ShardPlan plan = Plan(Published("35b-a3b"), {.ranks = 4}, 3);
  const LocalSizes& local = plan.local();
  EXPECT_EQ(local.vocab_rows, 62080);
  EXPECT_EQ(local.vocab_begin, 3 * 62080);
  EXPECT_EQ(local.num_heads, 4);
  EXPECT_EQ(local.num_kv_heads, 1);
  EXPECT_EQ(plan.kv_replicas(), 2);
  EXPECT_EQ(local.linear_num_key_heads, 4);
  EXPECT_EQ(local.linear_num_value_heads, 8);
  EXPECT_EQ(local.num_experts, 256);
  EXPECT_EQ(local.first_expert, 0);
  EXPECT_EQ(local.moe_intermediate_size, 128);
  EXPECT_EQ(local.shared_expert_intermediate_size, 128);
}

TEST(ShardPlanTest, GivesWholeExpertsInExpertMode) {
  const ShardPlan plan = Plan(Published("35b-a3b"), {.ranks = 4, .moe = MoeMode::kExpert}, 3);
  EXPECT_EQ(plan.local().num_experts, 64);
  EXPECT_EQ(plan.local().first_expert, 192);
  EXPECT_EQ(plan.local().moe_intermediate_size, 512);
  EXPECT_EQ(plan.local().shared_expert_intermediate_size, 128);
}

TEST(ShardPlanTest, ReplicatedLinearAttentionKeepsAllItsHeads) {
  const ShardPlan plan =
      Plan(Published("27b"), {.ranks = 8, .linear_attention = LinearAttentionMode::kReplicated});
  EXPECT_EQ(plan.local().linear_num_key_heads, 16);
  EXPECT_EQ(plan.local().linear_num_value_heads, 48);
  EXPECT_EQ(plan.local().num_heads, 3);
}

// Spec 5.1: to a multiple of lcm(64, ranks), the same on every rank.
TEST(ShardPlanTest, PadsTheVocabulary) {
  ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  EXPECT_EQ(Plan(config, {.ranks = 1}).local().vocab_rows, 128);
  EXPECT_EQ(Plan(config, {.ranks = 4}).local().vocab_rows, 32);
  config.vocab_size = 128;
  EXPECT_EQ(Plan(config, {.ranks = 4}).padded_vocab_size(), 128);
  // 6 ranks: lcm(64, 6) = 192.
  config.num_attention_heads = 12;
  config.linear_num_key_heads = 6;
  config.linear_num_value_heads = 12;
  config.intermediate_size = 24;
  EXPECT_EQ(Plan(config, {.ranks = 6}).padded_vocab_size(), 192);
}

// Spec 5.3, the column with KV replication, for sharded linear attention and --moe=tp.
TEST(ShardPlanTest, KnowsTheLegalDegreesOfThePublishedSizes) {
  const auto degrees = [](const char* name) {
    return ShardPlan::LegalDegrees(Published(name), ParallelOptions{});
  };
  EXPECT_THAT(degrees("0.8b"), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(degrees("2b"), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(degrees("4b"), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(degrees("9b"), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(degrees("27b"), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(degrees("35b-a3b"), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(degrees("122b-a10b"), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(degrees("397b-a17b"), ElementsAre(1, 2, 4, 8, 16));
}

TEST(ShardPlanTest, ReplicatedLinearAttentionAllowsMoreRanks) {
  const ParallelOptions replicated = {.linear_attention = LinearAttentionMode::kReplicated};
  EXPECT_THAT(ShardPlan::LegalDegrees(Published("122b-a10b"), replicated),
              ElementsAre(1, 2, 4, 8, 16, 32));
}

TEST(ShardPlanTest, RefusesByFieldValueDegreeAndLegalDegrees) {
  EXPECT_EQ(Refusal(Published("35b-a3b"), {.ranks = 3}),
            "num_attention_heads is 16: 3 ranks cannot share it; use 1, 2, 4, 8 or 16 ranks");
  EXPECT_EQ(Refusal(Published("122b-a10b"), {.ranks = 32}),
            "linear_num_key_heads is 16: 32 ranks cannot share it; use 1, 2, 4, 8 or 16 ranks, or "
            "--linear-attention=replicated");
  EXPECT_THAT(Refusal(Published("0.8b"), {.ranks = 0}), HasSubstr("ranks is 0"));

  ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  config.intermediate_size = 22;
  EXPECT_EQ(Refusal(config, {.ranks = 4}),
            "intermediate_size is 22: 4 ranks cannot share it; use 1 or 2 ranks");
  config = TinyConfig(ModelFamily::kQwen35);
  config.num_attention_heads = 24;
  config.num_key_value_heads = 6;
  EXPECT_THAT(Refusal(config, {.ranks = 4}), HasSubstr("num_key_value_heads is 6: 4 ranks"));

  config = TinyConfig(ModelFamily::kQwen35Moe);
  config.moe_intermediate_size = 6;
  EXPECT_EQ(Refusal(config, {.ranks = 4}),
            "moe_intermediate_size is 6: 4 ranks cannot share it; use 1 or 2 ranks, or --moe=ep");
  config = TinyConfig(ModelFamily::kQwen35Moe);
  config.num_experts = 6;
  EXPECT_EQ(Refusal(config, {.ranks = 4, .moe = MoeMode::kExpert}),
            "num_experts is 6: 4 ranks cannot share it; use 1 or 2 ranks, or --moe=tp");
}

// How often each stored byte is read over all ranks: once, but for what is replicated.
TEST(ShardPlanTest, RanksTogetherHoldEveryStoredByteAsOftenAsTheyShould) {
  for (const ModelFamily family : kFamilies) {
    const ModelConfig config = TinyConfig(family);
    for (const int ranks : {1, 2, 4}) {
      for (const ParallelOptions& options : AllModes(ranks)) {
        for (const WeightSpec& spec : WeightTable(config, options)) {
          std::map<std::string, std::vector<int>> held;
          for (int rank = 0; rank < ranks; ++rank) {
            for (const ByteRange& range : Plan(config, options, rank).Ranges(spec, DType::kBF16)) {
              const StoredTensor& stored = spec.stored[static_cast<size_t>(range.stored)];
              auto& counts = held[stored.name];
              counts.resize(static_cast<size_t>(2 * NumElements(stored.shape)));
              for (int64_t i = 0; i < range.bytes; ++i) {
                ++counts.at(static_cast<size_t>(range.source_offset + i));
              }
            }
          }
          const int copies = spec.split == Split::kReplicated ? ranks
                             : spec.split == Split::kKvHeads
                                 ? std::max(1, ranks / static_cast<int>(config.num_key_value_heads))
                                 : 1;
          int64_t bytes = 0;
          for (const auto& [name, counts] : held) {
            for (const int count : counts) {
              if (count == 0) continue;  // the part of a fused tensor that is another weight's
              ASSERT_EQ(count, copies) << name;
              ++bytes;
            }
          }
          EXPECT_EQ(bytes, 2 * NumElements(spec.shape)) << spec.name << " " << ranks;
        }
      }
    }
  }
}

TEST(ShardPlanTest, RangesFillTheLocalShapeWithoutOverlap) {
  for (const ModelFamily family : kFamilies) {
    const ModelConfig config = TinyConfig(family);
    for (const ParallelOptions& options : AllModes(4)) {
      for (const WeightSpec& spec : WeightTable(config, options)) {
        if (spec.split == Split::kVocabulary) continue;
        const ShardPlan plan = Plan(config, options, 2);
        int64_t end = 0;
        for (const ByteRange& range : plan.Ranges(spec, DType::kF32)) {
          ASSERT_EQ(range.destination_offset, end) << spec.name;
          end += range.bytes;
        }
        EXPECT_EQ(end, 4 * NumElements(plan.LocalShape(spec))) << spec.name;
      }
    }
  }
}

TEST(ShardPlanTest, AVocabularyPartPastTheEndHoldsNothing) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);  // 71 rows, padded to 128
  const WeightSpec embedding = WeightTable(config, {.ranks = 4}).front();
  const int64_t row_bytes = config.hidden_size * 2;
  const auto rows = [&](int rank) {
    int64_t bytes = 0;
    const ShardPlan plan = Plan(config, {.ranks = 4}, rank);
    EXPECT_THAT(plan.LocalShape(embedding), ElementsAre(32, config.hidden_size));
    for (const ByteRange& range : plan.Ranges(embedding, DType::kBF16)) bytes += range.bytes;
    return bytes / row_bytes;
  };
  EXPECT_EQ(rows(0), 32);
  EXPECT_EQ(rows(1), 32);
  EXPECT_EQ(rows(2), 7);
  EXPECT_EQ(rows(3), 0);
}

TEST(ShardPlanTest, MergesContiguousRows) {
  const ModelConfig config = Published("0.8b");
  const ShardPlan plan = Plan(config, {.ranks = 2}, 1);
  for (const WeightSpec& spec : WeightTable(config, {.ranks = 2})) {
    const size_t ranges = plan.Ranges(spec, DType::kBF16).size();
    if (spec.split == Split::kOutput) {
      EXPECT_EQ(ranges, spec.segments.size()) << spec.name;
    } else if (spec.split == Split::kReplicated) {
      EXPECT_EQ(ranges, 1U) << spec.name;
    }
  }
}

}  // namespace
}  // namespace deltaserve
