#include "worker/checkpoint/weight_table.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

ModelConfig Published(const std::string& name) {
  const auto config =
      LoadModelConfig(std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/configs/" + name + ".json");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

// Spec 1.4: parameters of the text model without MTP, in thousands of millions; spec 2.2: tensors.
struct Row {
  const char* name;
  double parameters;
  size_t tensors;
};

const Row kRows[] = {{"0.8b", 0.752, 320},        {"2b", 1.882, 320},
                     {"4b", 4.206, 426},          {"9b", 8.954, 427},
                     {"27b", 26.896, 851},        {"35b-a3b", 34.661, 693},
                     {"122b-a10b", 122.112, 831}, {"397b-a17b", 396.346, 1038}};

TEST(WeightTableTest, HoldsTheParametersAndTensorsOfThePublishedSizes) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    const ModelConfig config = Published(row.name);
    const auto tensors = StoredTensors(config, WeightTable(config, ParallelOptions{}));
    EXPECT_EQ(tensors.size(), row.tensors);
    int64_t parameters = 0;
    for (const StoredTensor& tensor : tensors) parameters += NumElements(tensor.shape);
    EXPECT_NEAR(static_cast<double>(parameters) / 1e9, row.parameters, 0.0005);
  }
}

TEST(WeightTableTest, HoldsTheParametersOfQwen3Next) {
  const ModelConfig config = Published("qwen3-next-80b-a3b");
  int64_t parameters = 0;
  for (const auto& tensor : StoredTensors(config, WeightTable(config, ParallelOptions{}))) {
    parameters += NumElements(tensor.shape);
  }
  EXPECT_NEAR(static_cast<double>(parameters) / 1e9, 79.67, 0.005);
}

// Spec 2.5: 36 F32 tensors in the 0.8B.
TEST(WeightTableTest, StoresDecayAndGatedNormInF32ForQwen35) {
  const auto count = [](const ModelConfig& config) {
    int f32 = 0;
    for (const auto& tensor : StoredTensors(config, WeightTable(config, ParallelOptions{}))) {
      if (tensor.dtype == DType::kF32) ++f32;
    }
    return f32;
  };
  EXPECT_EQ(count(Published("0.8b")), 36);
  EXPECT_EQ(count(Published("qwen3-next-80b-a3b")), 0);
}

// Products but for those that small errors of decide much: routers, gates, decays.
TEST(WeightTableTest, QuantizesProjectionsExpertsAndTheHeadAlone) {
  std::set<std::string> names;
  for (const char* model : {"35b-a3b", "9b", "qwen3-next-80b-a3b"}) {
    const ModelConfig config = Published(model);
    const ShardPlan plan = *ShardPlan::Create(config, {.ranks = 2}, 1);
    for (const WeightSpec& spec : WeightTable(config, plan.options())) {
      const int64_t outputs = NumElements(plan.LocalShape(spec)) / plan.LocalShape(spec).back();
      const int64_t inputs = plan.LocalShape(spec).back();
      const int64_t stored = LocalBytes(plan, spec, Quantization::kNone);
      const int64_t int8 = LocalBytes(plan, spec, Quantization::kInt8);
      if (spec.precision == Precision::kExact) {
        EXPECT_EQ(int8, stored) << spec.name;
        continue;
      }
      EXPECT_EQ(int8, outputs * (inputs + 4)) << spec.name;
      EXPECT_EQ(stored, outputs * inputs * 2) << spec.name;
      names.insert(spec.name.substr(spec.name.rfind('.', spec.name.rfind('.') - 1) + 1));
    }
  }
  EXPECT_EQ(names, (std::set<std::string>{"lm_head.weight", "in_proj_qkv.weight",
                                          "in_proj_z.weight", "out_proj.weight", "q_proj.weight",
                                          "k_proj.weight", "v_proj.weight", "o_proj.weight",
                                          "gate_up_proj.weight", "down_proj.weight",
                                          "experts.gate_up_proj", "experts.down_proj"}));
}

// Both forms of every expert weight hold the same number of elements, so one can stand for the
// other.
TEST(WeightTableTest, OffersBothFormsOfExperts) {
  const ModelConfig config = Published("35b-a3b");
  int checked = 0;
  for (const WeightSpec& spec : WeightTable(config, ParallelOptions{}, ExpertForm::kFused)) {
    if (spec.alternative.empty()) continue;
    int64_t elements = 0;
    for (const StoredTensor& tensor : spec.alternative) elements += NumElements(tensor.shape);
    EXPECT_EQ(elements, NumElements(spec.shape)) << spec.name;
    EXPECT_EQ(spec.stored.size(), 1U);
    ++checked;
  }
  EXPECT_EQ(checked, 80);
}

TEST(WeightTableTest, NamesEveryWeightOnce) {
  for (const char* name : {"0.8b", "35b-a3b", "qwen3-next-80b-a3b"}) {
    std::set<std::string> names;
    for (const WeightSpec& spec : WeightTable(Published(name), ParallelOptions{})) {
      EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    }
  }
}

// The two families give layers the same names and shapes: only storage differs.
TEST(WeightTableTest, Qwen3NextHasTheLogicalWeightsOfQwen35) {
  ModelConfig next = Published("qwen3-next-80b-a3b");
  ModelConfig moe = next;
  moe.family = ModelFamily::kQwen35Moe;
  const auto a = WeightTable(next, ParallelOptions{});
  const auto b = WeightTable(moe, ParallelOptions{});
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_EQ(a[i].shape, b[i].shape) << a[i].name;
  }
}

}  // namespace
}  // namespace deltaserve
