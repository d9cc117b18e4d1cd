// What 8-bit weights (--quantize=int8) do to a model: log-sum-exp and most likely token of every
// position of the goldens' prompts, beside those of transformers in f32.

#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/models/golden_check.h"

namespace deltaserve::test {
namespace {

// Bounds are 1.4 times what was measured (docs/quantization.md). Random weights are the hard case:
// logits of a deviation of 3 (8 where the head is tied) with small margins, experts that are nearly
// tied.
struct Case {
  const char* model;
  int ranks;
  double mean_error;  // of the log-sum-exp
  double agreement;   // share of positions with the same most likely token
};

constexpr Case kCases[] = {{"dense-flat", 1, 0.07, 0.88}, {"dense-one-kv-head", 1, 0.043, 0.92},
                           {"dense-tied", 2, 0.28, 0.95}, {"moe-fused", 2, 0.12, 0.81},
                           {"moe-tied", 1, 0.62, 0.98},   {"next", 1, 0.115, 0.81}};

class Int8GoldenTest : public ::testing::TestWithParam<Case> {};

TEST_P(Int8GoldenTest, LogitsStayNearThoseOfTransformers) {
  const auto& [model, ranks, mean_error, least_agreement] = GetParam();
  const GoldenNearness near =
      MeasureNearness(model, {.ranks = ranks, .quantization = Quantization::kInt8});
  RecordProperty("mean_error", std::to_string(near.mean_error));
  RecordProperty("top_agreement", std::to_string(near.agreement));
  EXPECT_LE(near.mean_error, mean_error);
  EXPECT_GE(near.agreement, least_agreement);
  // Exact weights would agree to 1e-3: then nothing was quantised.
  EXPECT_GT(near.mean_error, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, Int8GoldenTest, ::testing::ValuesIn(kCases), [](const auto& c) {
  std::string name = c.param.model;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace deltaserve::test
