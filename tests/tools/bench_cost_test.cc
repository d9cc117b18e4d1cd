// What the benches count, against numbers worked out by hand, and how they show it.

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tools/bench/cost.h"
#include "tools/bench/limits.h"
#include "tools/bench/measurement.h"
#include "tools/bench/roofline.h"
#include "tools/bench/step_cost.h"

namespace deltaserve::bench {
namespace {

using ::testing::HasSubstr;

ModelConfig Dense() {
  ModelConfig config;
  config.vocab_size = 128;
  config.hidden_size = 64;
  config.layer_types = {LayerType::kLinearAttention, LayerType::kFullAttention};
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 32;
  config.rotary_dim = 8;
  config.max_position_embeddings = 1024;
  config.linear_num_key_heads = 2;
  config.linear_num_value_heads = 4;
  config.linear_key_head_dim = 16;
  config.linear_value_head_dim = 16;
  config.linear_conv_kernel_dim = 4;
  config.intermediate_size = 96;
  return config;
}

ModelConfig Moe() {
  ModelConfig config = Dense();
  config.family = ModelFamily::kQwen35Moe;
  config.intermediate_size = 0;
  config.num_experts = 4;
  config.num_experts_per_tok = 2;
  config.moe_intermediate_size = 16;
  config.shared_expert_intermediate_size = 24;
  return config;
}

// Elements of matrices. Linear attention: qkv 128x64, z 64x64, b and a 4x64, out 64x64. Full: q
// with gate 128x64, k and v 32x64, o 64x64. Feed-forward: gate and up 192x64, down 64x96.
constexpr double kLinear = 8192 + 4096 + 2 * 256 + 4096;
constexpr double kFull = 8192 + 2 * 2048 + 4096;
constexpr double kMlp = 12288 + 6144;
constexpr double kHead = 128 * 64;
// A layer's router 4x64, shared expert 48x64 and 64x24, its gate 1x64; an expert 32x64 and 64x16.
constexpr double kRouterAndShared = 256 + 3072 + 1536 + 64;
constexpr double kExpert = 2048 + 1024;
// f32: A_log and dt_bias of 4 heads, norms of dv 16, head_dim 32 twice, hidden 64 five times; conv
// of 128 channels and 4 taps.
constexpr double kVectorBytes = 4.0 * (4 + 4 + 16 + 2 * 32 + 5 * 64 + 128 * 4);
// Heads x dk x dv and 3 rows of 128 channels, read and written.
constexpr double kStateBytes = 2 * 4.0 * (4 * 16 * 16 + 3 * 128);
constexpr double kTokenBytes = 2 * 4.0 * 32;  // a key and a value of one head
constexpr double kConvFlops = 2 * 128 * 4;
constexpr double kDeltaFlops = 7 * 4 * 16 * 16;
constexpr double kSeenFlops = 4 * 2 * 32;  // of two heads with a position

Cost CostOf(const ModelConfig& config,
            const std::vector<StepRows>& sequences,
            int64_t scored,
            int ranks = 1,
            Quantization quantization = Quantization::kNone,
            const Numerics& numerics = kF32Numerics) {
  Cost sum;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto plan = ShardPlan::Create(config, {.ranks = ranks}, rank);
    EXPECT_TRUE(plan.ok()) << plan.status();
    sum += StepCost(config, *plan, numerics, quantization, sequences, scored);
  }
  return sum;
}

TEST(StepCostTest, CountsADecodeOfADenseModel) {
  const double matrices = kLinear + kFull + 2 * kMlp + kHead;
  const Cost cost = CostOf(Dense(), {{.first = 10, .rows = 1}}, 1);
  EXPECT_DOUBLE_EQ(cost.bytes, 2 * matrices + kVectorBytes + kStateBytes + 11 * kTokenBytes);
  EXPECT_DOUBLE_EQ(cost.flops, 2 * matrices + kConvFlops + kDeltaFlops + 11 * kSeenFlops);
  ModelConfig tied = Dense();
  tied.tie_word_embeddings = true;
  EXPECT_DOUBLE_EQ(CostOf(tied, {{.first = 10, .rows = 1}}, 1).bytes, cost.bytes);
}

TEST(StepCostTest, ReadsWeightsOnceForAllRowsAndNoHeadWithoutScores) {
  const double matrices = kLinear + kFull + 2 * kMlp;
  const Cost prefill = CostOf(Dense(), {{.first = 0, .rows = 3}}, 0);
  EXPECT_DOUBLE_EQ(prefill.bytes, 2 * matrices + kVectorBytes + kStateBytes + 3 * kTokenBytes);
  EXPECT_DOUBLE_EQ(prefill.flops,
                   3 * (2 * matrices + kConvFlops + kDeltaFlops) + (1 + 2 + 3) * kSeenFlops);
  const Cost batch = CostOf(Dense(), {{.first = 5}, {.first = 9}}, 2);
  EXPECT_DOUBLE_EQ(batch.bytes, 2 * (matrices + kHead) + kVectorBytes + 2 * kStateBytes +
                                    (6 + 10) * kTokenBytes);
}

TEST(StepCostTest, CountsKeysAndValuesInTheDtypeOfTheDevice) {
  const std::vector<StepRows> rows = {{.first = 10, .rows = 1}};
  const Cost wide = CostOf(Dense(), rows, 1);
  const Cost narrow = CostOf(Dense(), rows, 1, 1, Quantization::kNone, kBF16Numerics);
  EXPECT_DOUBLE_EQ(narrow.bytes, wide.bytes - 11 * kTokenBytes / 2);
  EXPECT_DOUBLE_EQ(narrow.flops, wide.flops);
}

TEST(StepCostTest, CountsEightBitWeightsAsOneByteAndTheSameFlops) {
  const ModelConfig config = Dense();
  const Cost stored = CostOf(config, {{.first = 10, .rows = 1}}, 1);
  const Cost int8 = CostOf(config, {{.first = 10, .rows = 1}}, 1, 1, Quantization::kInt8);
  EXPECT_DOUBLE_EQ(int8.flops, stored.flops);
  // All but b and a, 512 elements; a scale for each of 256 + 256 + 2 x 256 + 128 outputs.
  const double quantized = kLinear + kFull + 2 * kMlp + kHead - 512;
  EXPECT_DOUBLE_EQ(int8.bytes, stored.bytes - quantized + 4 * 1152);
}

TEST(StepCostTest, CountsTheExpertsThatAreExpectedToBeChosen) {
  const double matrices = kLinear + kFull + 2 * kRouterAndShared + kHead;
  const Cost one = CostOf(Moe(), {{.first = 10}}, 1);
  const double rest = kVectorBytes + kStateBytes + 11 * kTokenBytes;
  EXPECT_DOUBLE_EQ(one.bytes, 2 * (matrices + 2 * 2 * kExpert) + rest);
  EXPECT_DOUBLE_EQ(one.flops,
                   2 * (matrices + 2 * 2 * kExpert) + kConvFlops + kDeltaFlops + 11 * kSeenFlops);
  // Two rows of 2 out of 4: 4 (1 - 1/4) = 3 experts.
  const Cost two = CostOf(Moe(), {{.first = 10}, {.first = 10}}, 2);
  EXPECT_DOUBLE_EQ(two.bytes, 2 * (matrices + 2 * 3 * kExpert) + kVectorBytes +
                                  2 * (kStateBytes + 11 * kTokenBytes));
  EXPECT_DOUBLE_EQ(two.flops, 2 * one.flops);
}

// The one KV head is on both ranks: k and v are projected twice, keys and values read twice.
TEST(StepCostTest, AddsUpOverRanks) {
  const Cost one = CostOf(Dense(), {{.first = 10}}, 1);
  const Cost two = CostOf(Dense(), {{.first = 10}}, 1, 2);
  EXPECT_DOUBLE_EQ(two.flops, one.flops + 2 * 2 * 2048);
  EXPECT_DOUBLE_EQ(two.bytes, one.bytes + 2 * 2 * 2048 + 11 * kTokenBytes +
                                  4 * (16 + 2 * 32 + 5 * 64));  // norms are on every rank
}

TEST(CostTest, AttentionSeesItselfAndAllBefore) {
  EXPECT_DOUBLE_EQ(AttentionFlops(3, 4, 2, 8), 4.0 * 2 * 8 * (5 + 6 + 7));
}

TEST(LimitsTest, AreMediansOfEachRate) {
  EXPECT_DOUBLE_EQ(MedianOf({3, 1, 2}), 2);
  EXPECT_DOUBLE_EQ(MedianOf({4, 1, 2, 3}), 2.5);
  const Limits median = MedianOf({{.read_bytes = 1, .fma_flops = 30, .int8_operations = 200},
                                  {.read_bytes = 2, .fma_flops = 10, .int8_operations = 300},
                                  {.read_bytes = 3, .fma_flops = 20, .int8_operations = 100}});
  EXPECT_DOUBLE_EQ(median.read_bytes, 2);
  EXPECT_DOUBLE_EQ(median.fma_flops, 20);
  EXPECT_DOUBLE_EQ(median.int8_operations, 200);
}

TEST(LimitsTest, MeanIsOfTheTimesThatTheyTake) {
  const Limits mean =
      MeanOf({.read_bytes = 10, .fma_flops = 6}, {.read_bytes = 30, .fma_flops = 6});
  EXPECT_DOUBLE_EQ(mean.read_bytes, 15);
  EXPECT_DOUBLE_EQ(mean.fma_flops, 6);
  EXPECT_EQ(mean.int8_operations, 0);
}

// Any machine that this is built for is far above, unless the loop is not what it says.
TEST(LimitsTest, AreMeasured) {
  ThreadPool pool(2);
  LimitMeter meter(pool, 8 << 20);
  EXPECT_EQ(meter.bytes(), 8 << 20);
  const Limits limits = meter.Measure();
  EXPECT_GT(limits.read_bytes, 1e8);
  EXPECT_GT(limits.fma_flops, 1e8);
  EXPECT_GT(limits.int8_operations, 1e8);
}

Measurement Sample(const std::string& what) {
  return {.what = what,
          .tokens = 4,
          .cost = {.bytes = 2e9, .flops = 6e9},
          .seconds = {0.9, 0.5, 0.1},
          .limits = std::vector(
              3, Limits{.read_bytes = 5e9, .fma_flops = 100e9, .int8_operations = 400e9})};
}

TEST(MeasurementTest, ComparesEveryRunWithItsLimits) {
  const Measurement m = Sample("m");
  EXPECT_DOUBLE_EQ(m.share_of_read(), 0.8);
  EXPECT_DOUBLE_EQ(m.share_of_fma(), 0.12);
  EXPECT_DOUBLE_EQ(m.share_of_int8(), 0.03);
  EXPECT_DOUBLE_EQ(m.share_of_limit(), 0.8);
  Measurement unlimited = m;
  unlimited.limits.assign(3, {});
  EXPECT_EQ(unlimited.share_of_limit(), 0);
  Measurement drifting = m;  // 2/9, 2 and 0.8 of what the machine could do at that moment
  drifting.limits[0].read_bytes = 10e9;
  drifting.limits[1].read_bytes = 2e9;
  drifting.limits[2].read_bytes = 25e9;
  EXPECT_DOUBLE_EQ(drifting.share_of_read(), 0.8);
}

TEST(MeasurementTest, ShowsATable) {
  Measurement no_tokens = Sample("row op");
  no_tokens.tokens = 0;
  const std::string table = MeasurementTable({Sample("decode, batch 4"), no_tokens});
  EXPECT_THAT(table, HasSubstr("what              tokens/s         ms       GB     GFLOP"));
  EXPECT_THAT(table, HasSubstr("decode, batch 4        8.0    500.000    2.000     6.000     4.00  "
                               "    12.0   80.0 %   12.0 %    3.0 %    80.0 %\n"));
  EXPECT_THAT(table, HasSubstr("row op                   -    500.000"));
}

TEST(MeasurementTest, WritesJsonWithEveryField) {
  const auto json = nlohmann::json::parse(MeasurementJson(
      {{"model", "a \"model\""}, {"ranks", 2.0}, {"memory", std::vector<double>{3, 4}}},
      {.read_bytes = 7, .fma_flops = 8, .int8_operations = 9}, {Sample("m")}));
  EXPECT_EQ(json["model"], "a \"model\"");
  EXPECT_EQ(json["ranks"], 2);
  EXPECT_EQ(json["memory"], nlohmann::json::parse("[3.0, 4.0]"));
  EXPECT_EQ(json["limits"]["read_bytes_per_second"], 7);
  EXPECT_EQ(json["limits"]["fma_flops_per_second"], 8);
  EXPECT_EQ(json["limits"]["int8_operations_per_second"], 9);
  EXPECT_NE(json["limits"]["fma"], "");
  EXPECT_NE(json["limits"]["int8"], "");
  const auto expected = nlohmann::json::parse(R"([{
      "what": "m", "tokens": 4.0, "tokens_per_second": 8.0, "calls": 1, "seconds": 0.5,
      "runs_seconds": [0.9, 0.5, 0.1], "bytes": 2e9, "flops": 6e9, "bytes_per_second": 4e9,
      "flops_per_second": 12e9, "limit_read_bytes_per_second": 5e9,
      "limit_fma_flops_per_second": 100e9, "limit_int8_operations_per_second": 400e9,
      "share_of_read": 0.8, "share_of_fma": 0.12, "share_of_int8": 0.03,
      "share_of_limit": 0.8}])");
  EXPECT_EQ(json["measurements"], expected) << json.dump(2);
}

// Whether every element of `xml` is closed in order and its text has no bare & or <.
bool IsWellFormed(const std::string& xml) {
  std::vector<std::string> open;
  size_t at = 0;
  while (at < xml.size()) {
    const size_t begin = xml.find('<', at);
    const std::string text = xml.substr(at, begin - at);
    for (size_t i = text.find('&'); i != std::string::npos; i = text.find('&', i + 1)) {
      const std::string entity = text.substr(i, text.find(';', i) - i);
      if (entity != "&amp" && entity != "&lt" && entity != "&gt") return false;
    }
    if (begin == std::string::npos) break;
    const size_t end = xml.find('>', begin);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(begin + 1, end - begin - 1);
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return false;
    const std::string name = tag.substr(0, tag.find(' '));
    if (tag.starts_with('/')) {
      if (open.empty() || "/" + open.back() != tag) return false;
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(name);
    }
    at = end + 1;
  }
  return open.empty();
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(RooflineTest, IsWellFormedWithAPointForWhatHasBytesAndFlops) {
  Measurement no_flops = Sample("no flops");
  no_flops.cost.flops = 0;
  const Measurement one = Sample("one <&> two");
  const std::string svg = RooflineSvg("a & b", one.limits[0], {one, no_flops, Sample("last")});
  EXPECT_TRUE(IsWellFormed(svg)) << svg;
  EXPECT_EQ(Count(svg, "<circle"), 2U);
  EXPECT_THAT(svg, HasSubstr(">2  last: 80 % of limit<"));
  EXPECT_THAT(svg, HasSubstr("one &lt;&amp;&gt; two"));
  EXPECT_EQ(Count(svg, "nan"), 0U);
  EXPECT_EQ(Count(svg, "stroke-width"), 2U);  // of the f32 roof: up, then level
  EXPECT_EQ(Count(RooflineSvg("no limits", {}, {one}), "stroke-width"), 0U);
}

}  // namespace
}  // namespace deltaserve::bench
