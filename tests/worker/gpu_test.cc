#include "worker/gpu.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

cuda::System WithGpus(int count) {
  cuda::System system;
  system.driver_version = 13010;
  system.runtime_version = 13000;
  for (int i = 0; i < count; ++i) {
    system.gpus.push_back({.name = "NVIDIA H200", .compute_capability = 90});
  }
  return system;
}

RankInfo RankOnHost(int local_rank, int local_size) {
  RankInfo info;
  info.rank = 8 + local_rank;
  info.size = 16;
  info.node = 1;
  info.local_rank = local_rank;
  info.local_size = local_size;
  info.host = "node-b";
  return info;
}

TEST(ChooseGpuTest, TakesTheGpuOfTheRanksNumberOnItsHost) {
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(ChooseGpu(WithGpus(8), RankOnHost(rank, 8), 1).value(), rank);
  }
}

TEST(ChooseGpuTest, SharesGpusWhereAskedToAndNotBeforeAllAreTaken) {
  EXPECT_EQ(ChooseGpu(WithGpus(1), RankOnHost(1, 2), 2).value(), 0);
  EXPECT_EQ(ChooseGpu(WithGpus(2), RankOnHost(1, 2), 2).value(), 1);
  EXPECT_EQ(ChooseGpu(WithGpus(2), RankOnHost(3, 4), 2).value(), 1);
}

TEST(ChooseGpuTest, OldMinorVersionsOfTheDriverDo) {
  cuda::System system = WithGpus(1);
  system.driver_version = 13000;
  system.runtime_version = 13010;
  EXPECT_EQ(ChooseGpu(system, RankOnHost(0, 1), 1).value(), 0);
}

struct Refusal {
  const char* name;
  void (*change)(cuda::System& system);
  const char* said;
};

class GpuRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(GpuRefusalTest, NamesRankHostAndRemedy) {
  cuda::System system = WithGpus(2);
  GetParam().change(system);
  const absl::Status refused = ChooseGpu(system, RankOnHost(1, 2), 1).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(refused.message()),
            std::string("--device is cuda: rank 9 on node-b: ") + GetParam().said);
}

INSTANTIATE_TEST_SUITE_P(
    Causes,
    GpuRefusalTest,
    testing::Values(
        Refusal{"NoDriver",
                [](cuda::System& system) {
                  system.driver_version = 0;
                  system.gpus.clear();
                },
                "there is no NVIDIA driver (libcuda.so.1); install it, give the container its "
                "GPUs, or use --device cpu"},
        Refusal{"OldDriver",
                [](cuda::System& system) {
                  system.driver_version = 12040;
                  system.gpus.clear();
                },
                "its NVIDIA driver knows CUDA up to 12.4 and this build needs 13.0; install a "
                "newer driver, or use --device cpu"},
        Refusal{"NoGpu",
                [](cuda::System& system) { system.gpus.clear(); },
                "there is no GPU; set CUDA_VISIBLE_DEVICES to those that it may use, or use "
                "--device cpu"},
        Refusal{"AnotherError",
                [](cuda::System& system) {
                  system.gpus.clear();
                  system.error = "CUDA: cudaGetDeviceCount: cudaErrorSystemNotReady: starting";
                },
                "CUDA: cudaGetDeviceCount: cudaErrorSystemNotReady: starting"},
        Refusal{"TooFew",
                [](cuda::System& system) { system.gpus.pop_back(); },
                "there are 2 ranks and 1 GPU; start a rank a GPU, or, for a test, share them by "
                "--ranks-per-gpu 2"},
        Refusal{"OtherKind",
                [](cuda::System& system) {
                  system.gpus[1] = {.name = "NVIDIA A100", .compute_capability = 80};
                },
                "its GPU 1, NVIDIA A100, has compute capability 8.0 and the kernels are for 9.0; "
                "use an H100 or H200, or --device cpu"}),
    [](const auto& test) { return test.param.name; });

// 10 GB of weights, 16 slots of 100 MB, 1 GB of keys and values.
MemoryPlan SomePlan() {
  MemoryPlan plan;
  plan.weights = 10'000'000'000;
  plan.per_slot = 100'000'000;
  plan.per_block = 1'000'000;
  plan.kv_blocks = 1000;
  plan.per_row = 1000;
  plan.prompt_rows = 64;
  return plan;
}

EngineOptions SomeOptions() {
  EngineOptions options;
  options.slots = 16;
  options.kv_memory = 1'000'000'000;
  options.token_budget = 64;
  return options;
}

constexpr int64_t kNeeded = 10'000'000'000 + 1'600'000'000 + 1'000'000'000 + 64'000;

TEST(CheckGpuMemoryTest, CountsTheReserveAndTheRanksThatShare) {
  EXPECT_TRUE(CheckGpuMemory(SomePlan(), SomeOptions(), kNeeded + kGpuReserve, 1).ok());
  EXPECT_TRUE(CheckGpuMemory(SomePlan(), SomeOptions(), 2 * (kNeeded + kGpuReserve), 2).ok());
  EXPECT_THAT(std::string(
                  CheckGpuMemory(SomePlan(), SomeOptions(), kNeeded + kGpuReserve - 1, 1).message()),
              testing::AllOf(HasSubstr("--slots is 16"), HasSubstr("use at most 15")));
  EXPECT_FALSE(CheckGpuMemory(SomePlan(), SomeOptions(), 2 * kNeeded + kGpuReserve, 2).ok());
}

TEST(CheckGpuMemoryTest, WeightsThatDoNotFitAreTheModelsFault) {
  const absl::Status refused = CheckGpuMemory(SomePlan(), SomeOptions(), 500'000'000, 1);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("--model: the weights of a rank take 10000000000 bytes and it has 0"));
}

TEST(CheckGpuMemoryTest, WhatWaitsIsInTheHostsMemory) {
  MemoryPlan plan = SomePlan();
  plan.per_queued = 1'000'000'000;
  plan.per_queued_token = 1'000'000'000;
  EXPECT_TRUE(CheckGpuMemory(plan, SomeOptions(), kNeeded + kGpuReserve, 1).ok());
}

TEST(ModelOfDeviceTest, LeavesTheOrdinalOut) {
  EXPECT_EQ(ModelOfDevice("cuda:3 (NVIDIA H100 80GB HBM3)"), "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(ModelOfDevice("cuda:0 (NVIDIA GH200 (144G))"), "NVIDIA GH200 (144G)");
  EXPECT_EQ(ModelOfDevice("cpu (x86-64-v4)"), "x86-64-v4");
  EXPECT_EQ(ModelOfDevice("reference"), "reference");
}

}  // namespace
}  // namespace deltaserve
