// Sizes of a model that a device lacks end its load before a weight is read.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/shim/shim_device.h"
#include "tests/worker/models/model_world.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/checkpoint/weight_table.h"

namespace deltaserve::test {
namespace {

using testing::HasSubstr;

// Rank 0 says `words`.
void ExpectRefused(const ModelConfig& config, const ParallelOptions& options, const char* words) {
  const auto device = cuda::CreateShimDevice();
  if (device == nullptr) GTEST_SKIP() << "nvcc has the kernels";
  const auto plan = ShardPlan::Create(config, options, 0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto loader =
      RandomWeights(1, config, *plan, WeightTable(config, options), {.num_readers = 1});
  ASSERT_TRUE(loader.ok()) << loader.status();
  const absl::Status status = CreateModel(config, *plan, *device, **loader).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(words));
}

TEST(ShapeTest, WhatADeviceLacksIsRefusedByName) {
  const auto golden = LoadModelConfig(GoldenFolder("moe-fused"));
  ASSERT_TRUE(golden.ok()) << golden.status();
  ModelConfig config = *golden;
  config.moe_intermediate_size = 24;
  ExpectRefused(config, {.ranks = 2}, "part with --moe=tp) is 12; this device has multiples of 8");
  config = *golden;
  config.vocab_size = 600000;
  ExpectRefused(config, {}, "vocab_size is 600000; this device has up to 524288");
  config = *golden;
  config.hidden_size = 100;
  ExpectRefused(config, {}, "hidden_size is 100; with experts this device has multiples of 8");
  config = *golden;
  config.num_experts = 520;
  ExpectRefused(config, {}, "num_experts is 520; this device has up to 512");
  config.num_experts = 64;
  config.num_experts_per_tok = 20;
  ExpectRefused(config, {}, "num_experts_per_tok is 20; this device has up to 16");
}

}  // namespace
}  // namespace deltaserve::test
