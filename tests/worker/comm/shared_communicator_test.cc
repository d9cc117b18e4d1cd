#include "worker/comm/shared_communicator.h"

#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/comm/collective_checks.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/thread_world.h"

namespace deltaserve {
namespace {

class SharedCommunicatorTest : public testing::TestWithParam<int> {
 protected:
  using Body = std::function<void(Communicator& communicator, Device& device)>;

  void Run(const Body& body) {
    ThreadWorld world(GetParam());
    RunRanks(GetParam(), [&](int rank) {
      const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
      const auto communicator = CreateSharedCommunicator(world.world(rank), *device).value();
      EXPECT_EQ(communicator->rank(), rank);
      EXPECT_EQ(communicator->size(), GetParam());
      EXPECT_EQ(communicator->Name(), GetParam() == 1 ? "single" : "shared");
      body(*communicator, *device);
    });
  }
};

TEST_P(SharedCommunicatorTest, AddsInRankOrder) {
  Run([](Communicator& communicator, Device&) { CheckAllReduceSum(communicator); });
}

TEST_P(SharedCommunicatorTest, AddsInRankOrderAroundChangesOfPath) {
  const size_t piece = kSharedPieceBytes / sizeof(float);
  const size_t one_shot = OneShotBytes(GetParam()) / sizeof(float);
  Run([&](Communicator& communicator, Device&) {
    CheckAllReduceSum(communicator, {one_shot - 1, one_shot, one_shot + 1, piece - 1, piece,
                                     piece + 1, 2 * piece, 2 * piece + 7});
  });
}

TEST_P(SharedCommunicatorTest, RowsDoNotDependOnCompany) {
  Run([](Communicator& communicator, Device&) { CheckRowsDoNotDependOnCompany(communicator); });
}

TEST_P(SharedCommunicatorTest, GathersAndBroadcasts) {
  Run([](Communicator& communicator, Device&) { CheckGatherAndBroadcast(communicator); });
}

TEST_P(SharedCommunicatorTest, ReduceAddNormIsSumAndNorm) {
  Run([](Communicator& communicator, Device& device) { CheckReduceAddNorm(communicator, device); });
}

// Mixed calls, each rank late at other times: whoever does not wait where it must, or frees a
// buffer too soon, gives wrong numbers sooner or later.
TEST_P(SharedCommunicatorTest, CallsInARowDoNotMix) {
  constexpr int kCalls = 3000;
  constexpr size_t kMost = 20000;
  Run([](Communicator& communicator, Device&) {
    const int rank = communicator.rank();
    const int size = communicator.size();
    std::mt19937 calls(7);                                   // the same on every rank
    std::mt19937 delays(100 + static_cast<unsigned>(rank));  // of this rank
    Buffer exchange = communicator.AllocateExchange(kMost * sizeof(float)).value();
    std::vector<float> all(kMost * static_cast<size_t>(size));
    size_t num_wrong = 0;  // a rank that stopped at the first would leave the others waiting
    for (int call = 0; call < kCalls; ++call) {
      const auto kind = calls() % 4;
      const int root = static_cast<int>(calls() % static_cast<unsigned>(size));
      const size_t count = calls() % 20 == 0 ? kMost : 1 + calls() % 300;
      const size_t first = calls() % 1000;
      const TensorView tensor = exchange.View(DType::kF32, {static_cast<int64_t>(count)});
      float* const mine = tensor.as<float>();
      for (size_t i = 0; i < count; ++i) mine[i] = RankValue(rank, first + i);
      const TensorView gathered(all.data(), DType::kF32, {size, static_cast<int64_t>(count)});
      const auto delay = std::chrono::microseconds(delays() % 8 == 0 ? delays() % 100 : 0);
      for (const auto end = std::chrono::steady_clock::now() + delay;
           std::chrono::steady_clock::now() < end;) {
      }
      if (kind == 0) {
        communicator.AllReduceSum(tensor);
        for (size_t i = 0; i < count; ++i) num_wrong += mine[i] != SerialSum(size, first + i);
      } else if (kind == 1) {
        communicator.Broadcast(tensor, root);
        for (size_t i = 0; i < count; ++i) num_wrong += mine[i] != RankValue(root, first + i);
      } else {
        if (kind == 2) communicator.AllGather(tensor, gathered);
        if (kind == 3) communicator.Gather(tensor, rank == root ? gathered : TensorView(), root);
        for (int peer = 0; peer < size && (kind == 2 || rank == root); ++peer) {
          const float* const part = gathered.Row(peer).as<float>();
          for (size_t i = 0; i < count; ++i) num_wrong += part[i] != RankValue(peer, first + i);
        }
      }
    }
    EXPECT_EQ(num_wrong, 0u);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedCommunicatorTest, testing::Values(1, 2, 3, 4));

// Ranks of several hosts; nothing is exchanged before that is seen.
class TwoHosts final : public World {
 public:
  TwoHosts() {
    info_.size = 4;
    info_.local_size = 2;
    info_.host = "one";
  }
  const RankInfo& info() const override { return info_; }
  std::vector<std::string> AllGather(const std::string& /*mine*/) override { return {}; }
  std::string BroadcastFromZero(const std::string& bytes) override { return bytes; }

 private:
  RankInfo info_;
};

TEST(SharedCommunicatorRefusalTest, RanksOfSeveralHostsShareNothing) {
  TwoHosts world;
  const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
  const auto refused = CreateSharedCommunicator(world, *device);
  EXPECT_EQ(refused.status(), absl::UnavailableError("2 of 4 ranks are on one"));
}

}  // namespace
}  // namespace deltaserve
