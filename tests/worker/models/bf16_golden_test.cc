// A model on a device, reference or CUDA's kernels over the shim, whose activations, keys, values
// and sums are bf16, and whose memory the host cannot address: every tensor has the dtype of its
// role, or an op ends the test, and what comes out is as near to transformers in f32 as rounding
// allows.

#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "kernels/cuda/shim/shim_device.h"
#include "tests/worker/models/golden_check.h"

namespace deltaserve::test {
namespace {

// Bounds are 1.4 times what was measured.
struct Case {
  const char* model;
  Cut cut;
  double mean_error;  // of the log-sum-exp
  double agreement;   // share of positions with the same most likely token
};

const Case kCases[] = {
    {"dense-tied", {.bf16 = true}, 0.06, 0.988},
    {"moe-fused", {.bf16 = true}, 0.032, 0.948},
    {"moe-fused", {.ranks = 2, .run_ahead = 1, .over_shim = true}, 0.032, 0.948}};

class Bf16GoldenTest : public ::testing::TestWithParam<Case> {};

TEST_P(Bf16GoldenTest, LogitsStayNearThoseOfTransformers) {
  const auto& [model, cut, mean_error, least_agreement] = GetParam();
  if (cut.over_shim && cuda::CreateShimDevice() == nullptr) GTEST_SKIP() << "nvcc has the kernels";
  const GoldenNearness near = MeasureNearness(model, cut);
  RecordProperty("mean_error", std::to_string(near.mean_error));
  RecordProperty("top_agreement", std::to_string(near.agreement));
  EXPECT_LE(near.mean_error, mean_error);
  EXPECT_GE(near.agreement, least_agreement);
  // In f32 they agree to 1e-3: then nothing was rounded.
  EXPECT_GT(near.mean_error, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, Bf16GoldenTest, ::testing::ValuesIn(kCases), [](const auto& c) {
  std::string name = std::string(c.param.model) + "_" + CutName(c.param.cut);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace deltaserve::test
