// Host communicators on a device that the host cannot reach.

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cuda/shim/shim_device.h"
#include "tests/worker/comm/deferred_device.h"
#include "tests/worker/comm/rank_threads.h"
#include "tests/worker/comm/staged_checks.h"
#include "worker/comm/shared_communicator.h"
#include "worker/comm/thread_communicator.h"

namespace deltaserve {
namespace {

class StagedCommunicatorTest : public testing::TestWithParam<int> {
 protected:
  using Body = std::function<void(ThreadWorld& world, int rank, DeferredDevice& device)>;

  void Run(const Body& body, const Numerics& numerics = kF32Numerics) {
    ThreadWorld world(GetParam());
    RunRanks(GetParam(), [&](int rank) {
      const auto cpu = cpu::CreateCpuDevice({.num_threads = 1}).value();
      DeferredDevice device(*cpu, numerics);
      body(world, rank, device);
    });
  }
};

TEST_P(StagedCommunicatorTest, BetweenThreads) {
  Run([](ThreadWorld& world, int rank, DeferredDevice& device) {
    CheckStagedCollectives<float>(*CreateThreadCommunicator(world, rank, device), device);
  });
}

TEST_P(StagedCommunicatorTest, OverSharedMemory) {
  Run([](ThreadWorld& world, int rank, DeferredDevice& device) {
    CheckStagedCollectives<float>(*CreateSharedCommunicator(world.world(rank), device).value(),
                                  device);
  });
}

TEST_P(StagedCommunicatorTest, Bf16IsAddedInF32AndRoundedOnce) {
  const auto check = [](ThreadWorld& world, int rank, DeferredDevice& device) {
    CheckStagedSums<BFloat16>(*CreateThreadCommunicator(world, rank, device), device);
    CheckStagedSums<BFloat16>(*CreateSharedCommunicator(world.world(rank), device).value(), device);
  };
  Run(check, kBF16Numerics);
}

// The device of the CUDA kernels over the host, which reduces in bf16.
TEST_P(StagedCommunicatorTest, OnTheDeviceOfTheKernelsOverTheHost) {
  if (cuda::CreateShimDevice() == nullptr) GTEST_SKIP() << "built for GPUs";
  ThreadWorld world(GetParam());
  RunRanks(GetParam(), [&](int rank) {
    const auto device = cuda::CreateShimDevice(static_cast<uint64_t>(rank) + 1);
    CheckStagedCollectives<BFloat16>(*CreateThreadCommunicator(world, rank, *device), *device);
  });
}

// Pinned memory is slow to make: nothing in a step makes any.
TEST_P(StagedCommunicatorTest, SumsTakeNoPinnedMemoryBeyondTheExchangeBuffers) {
  Run([](ThreadWorld& world, int rank, DeferredDevice& device) {
    const auto communicator = CreateThreadCommunicator(world, rank, device);
    Buffer exchange = communicator->AllocateExchange(4096).value();
    const size_t before = device.most_host_bytes();
    EXPECT_EQ(before, GetParam() == 1 ? 0U : 4096U);
    device.Zero(exchange.View(DType::kF32, {1024}));
    communicator->AllReduceSum(exchange.View(DType::kF32, {1024}));
    EXPECT_EQ(device.most_host_bytes(), before);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, StagedCommunicatorTest, testing::Values(1, 2, 3));

}  // namespace
}  // namespace deltaserve
