#include "worker/comm/thread_communicator.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/comm/collective_checks.h"
#include "tests/worker/comm/rank_threads.h"
#include "tests/worker/comm/remote_device.h"
#include "worker/comm/host_communicator.h"

namespace deltaserve {
namespace {

class ThreadCommunicatorTest : public testing::TestWithParam<int> {
 protected:
  using Body = std::function<void(Communicator& communicator, Device& device)>;

  void Run(const Body& body) {
    ThreadWorld world(GetParam());
    RunRanks(GetParam(), [&](int rank) {
      const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
      const auto communicator = CreateThreadCommunicator(world, rank, *device);
      EXPECT_EQ(communicator->rank(), rank);
      EXPECT_EQ(communicator->size(), GetParam());
      EXPECT_EQ(communicator->Name(), GetParam() == 1 ? "single" : "threads");
      body(*communicator, *device);
    });
  }
};

TEST_P(ThreadCommunicatorTest, AddsInRankOrder) {
  Run([](Communicator& communicator, Device&) { CheckAllReduceSum(communicator); });
}

TEST_P(ThreadCommunicatorTest, RowsDoNotDependOnCompany) {
  Run([](Communicator& communicator, Device&) { CheckRowsDoNotDependOnCompany(communicator); });
}

TEST_P(ThreadCommunicatorTest, GathersAndBroadcasts) {
  Run([](Communicator& communicator, Device&) { CheckGatherAndBroadcast(communicator); });
}

TEST_P(ThreadCommunicatorTest, ReduceAddNormIsSumAndNorm) {
  Run([](Communicator& communicator, Device& device) { CheckReduceAddNorm(communicator, device); });
}

TEST_P(ThreadCommunicatorTest, CountsWhatTravels) {
  Run([](Communicator& communicator, Device&) {
    Buffer exchange = communicator.AllocateExchange(400).value();
    exchange.View(DType::kU8, {400}).as<uint8_t>()[0] = 0;
    communicator.AllReduceSum(exchange.View(DType::kF32, {0}));
    communicator.Broadcast(exchange.View(DType::kF32, {7}), 0);
    communicator.Broadcast(exchange.View(DType::kF32, {3}), 0);
    const bool alone = communicator.size() == 1;
    EXPECT_EQ(communicator.Stats().calls, alone ? 0u : 2u);
    EXPECT_EQ(communicator.Stats().bytes, alone ? 0u : 40u);
  });
}

// The last rank comes late: the others' time is what they waited.
TEST_P(ThreadCommunicatorTest, TimesCallsWithTheirWaits) {
  Run([](Communicator& communicator, Device&) {
    Buffer memory = communicator.AllocateExchange(4).value();
    memory.View(DType::kF32, {1}).as<float>()[0] = 1;
    if (communicator.rank() == communicator.size() - 1) absl::SleepFor(absl::Milliseconds(40));
    const absl::Time start = absl::Now();
    communicator.AllReduceSum(memory.View(DType::kF32, {1}));
    const absl::Duration took = absl::Now() - start;
    if (communicator.size() == 1) {
      EXPECT_EQ(communicator.Stats().time, absl::ZeroDuration());
    } else {
      EXPECT_GT(communicator.Stats().time, absl::ZeroDuration());
      EXPECT_LE(communicator.Stats().time, took);
      // Room for a pause between two looks at the clock.
      EXPECT_GE(communicator.Stats().time, took - absl::Milliseconds(20));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ThreadCommunicatorTest, testing::Values(1, 2, 3, 4));

TEST(CollectiveChecksTest, OrderOfAdditionsMattersForTheValuesUsed) {
  size_t num_different = 0;
  for (size_t i = 0; i < 1000; ++i) num_different += SerialSum(3, i) != SerialSum(3, i, true);
  EXPECT_GT(num_different, 100u);
}

TEST(AddInRankOrderTest, AddsStridedPartsInPlaceAndApart) {
  constexpr size_t kStride = 200;
  for (const size_t count : {0u, 1u, 63u, 64u, 65u, 130u}) {
    std::vector<float> parts(3 * kStride);
    for (size_t rank = 0; rank < 3; ++rank) {
      for (size_t i = 0; i < kStride; ++i) {
        parts[rank * kStride + i] = RankValue(static_cast<int>(rank), i);
      }
    }
    std::vector<float> expected(kStride, -7.0f), apart(kStride, -7.0f);
    for (size_t i = 0; i < count; ++i) expected[i] = SerialSum(3, i);
    AddInRankOrder(parts.data(), kStride, 3, count, apart.data());
    EXPECT_EQ(apart, expected) << count;  // nothing beyond `count` is written
    AddInRankOrder(parts.data(), kStride, 3, count, parts.data());
    EXPECT_TRUE(
        std::equal(apart.begin(), apart.begin() + static_cast<ptrdiff_t>(count), parts.begin()));
  }
}

TEST(SingleCommunicatorTest, TakesADeviceThatTheHostCannotReachAndCopiesOnItsQueue) {
  RemoteDevice device;
  const auto communicator = CreateSingleCommunicator(device);
  EXPECT_EQ(communicator->Name(), "single");
  Buffer exchange = communicator->AllocateExchange(64).value();
  const TensorView tensor = exchange.View(DType::kF32, {8});
  communicator->AllReduceSum(tensor);
  communicator->Broadcast(tensor, 0);
  EXPECT_EQ(device.num_copies, 0);
  communicator->AllGather(tensor, tensor.Reshape({1, 8}));
  EXPECT_EQ(device.num_copies, 0);  // where it should be already
  Buffer out = Buffer::AllocateHost(32);
  communicator->AllGather(tensor, out.View(DType::kF32, {1, 8}));
  communicator->Gather(tensor, out.View(DType::kF32, {1, 8}), 0);
  EXPECT_EQ(device.num_copies, 2);
}

TEST(SingleCommunicatorTest, SumsInTheDevicesDtypeOfReductions) {
  RemoteDevice device;
  device.of_ops = kBF16Numerics;
  const auto communicator = CreateSingleCommunicator(device);
  Buffer exchange = communicator->AllocateExchange(64).value();
  communicator->AllReduceSum(exchange.View(DType::kBF16, {32}));
  EXPECT_DEATH(communicator->AllReduceSum(exchange.View(DType::kF32, {8})), "F32\\[8\\]");
}

class CommunicatorDeathTest : public testing::Test {
 protected:
  CommunicatorDeathTest() { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  RemoteDevice device_;
};

TEST_F(CommunicatorDeathTest, SumsOutsideExchangeBuffersAreRefused) {
  const auto communicator = CreateSingleCommunicator(device_);
  Buffer first = communicator->AllocateExchange(64).value();
  std::vector<float> elsewhere(4);
  EXPECT_DEATH(communicator->AllReduceSum(TensorView(elsewhere.data(), DType::kF32, {4})),
               "F32\\[4\\] lies in no buffer of AllocateExchange");
  const TensorView beyond(static_cast<float*>(first.data()) + 8, DType::kF32, {9});
  EXPECT_DEATH(communicator->AllReduceSum(beyond), "lies in no buffer");
  communicator->AllReduceSum(first.View(DType::kF32, {16}));
  const TensorView view = first.View(DType::kF32, {16});
  first = Buffer();
  EXPECT_DEATH(communicator->AllReduceSum(view), "lies in no buffer");
}

TEST_F(CommunicatorDeathTest, RanksThatCallDifferentCollectivesAreFound) {
  EXPECT_DEATH(
      {
        ThreadWorld world(2);
        RunRanks(2, [&](int rank) {
          const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
          const auto communicator = CreateThreadCommunicator(world, rank, *device);
          Buffer exchange = communicator->AllocateExchange(64).value();
          const TensorView tensor = exchange.View(DType::kF32, {16});
          tensor.as<float>()[0] = 0;
          if (rank == 0) communicator->AllReduceSum(tensor);
          if (rank == 1) communicator->Broadcast(tensor.Rows(0, 4), 0);
        });
      },
      "rank [01] calls .* bytes while rank [01] calls");
}

TEST_F(CommunicatorDeathTest, ARankThatStaysAwayIsNamed) {
  EXPECT_DEATH(
      {
        ThreadWorld world(3, absl::Milliseconds(50));
        RunRanks(3, [&](int rank) {
          if (rank != 1) world.world(rank).Barrier();
        });
      },
      "World::AllGather waits for rank 1");
}

TEST(ThreadCommunicatorStopTest, StopLetsRanksOutOfACollective) {
  ThreadWorld world(2);
  RunRanks(2, [&](int rank) {
    const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
    const auto communicator = CreateThreadCommunicator(world, rank, *device);
    Buffer exchange = communicator->AllocateExchange(64).value();
    const TensorView tensor = exchange.View(DType::kF32, {16});
    tensor.as<float>()[0] = 5.0f;
    if (rank == 0) {
      communicator->AllReduceSum(tensor);  // rank 1 never comes
      communicator->AllReduceSum(tensor);
      EXPECT_EQ(tensor.as<float>()[0], 5.0f);
    } else {
      world.Stop();
    }
  });
}

}  // namespace
}  // namespace deltaserve
