// Worlds, collectives, plans and links over real MPI. Run under mpirun with any number of ranks;
// every rank runs every test.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/comm/collective_checks.h"
#include "tests/worker/comm/deferred_device.h"
#include "tests/worker/comm/staged_checks.h"
#include "tests/worker/comm/world_checks.h"
#include "worker/comm/control_link.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/mpi_world.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/shared_communicator.h"
#include "worker/comm/world_communicator.h"

namespace deltaserve {
namespace {

MpiWorld* the_world = nullptr;  // main's; gtest has no other way to a test

class MpiTest : public testing::Test {
 protected:
  MpiTest() : world_(*the_world), info_(world_.info()) {
    device_ = cpu::CreateCpuDevice({.num_threads = 1}).value();
    communicator_ = CreateMpiCommunicator(world_, *device_);
    shared_ = CreateSharedCommunicator(world_, *device_).value();
  }

  MpiWorld& world_;
  const RankInfo& info_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<Communicator> shared_;
};

TEST_F(MpiTest, RankInfoPlacesRanksOnHosts) {
  int rank = -1;
  int size = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  EXPECT_EQ(info_.rank, rank);
  EXPECT_EQ(info_.size, size);
  // Hosts in the order of their lowest ranks, and how many ranks of mine come before me.
  const std::vector<std::string> hosts = world_.AllGather(info_.host);
  std::vector<std::string> nodes;
  for (const std::string& host : hosts) {
    if (std::find(nodes.begin(), nodes.end(), host) == nodes.end()) nodes.push_back(host);
  }
  EXPECT_FALSE(info_.host.empty());
  EXPECT_EQ(nodes[static_cast<size_t>(info_.node)], info_.host);
  EXPECT_EQ(info_.local_rank, std::count(hosts.begin(), hosts.begin() + rank, info_.host));
  EXPECT_EQ(info_.local_size, std::count(hosts.begin(), hosts.end(), info_.host));
}

TEST_F(MpiTest, GathersAndBroadcastsBytes) { CheckWorld(world_); }

TEST_F(MpiTest, AgreesOnTheLowestFailingRank) { CheckAgreeOnStatus(world_); }

TEST_F(MpiTest, AddsInRankOrder) { CheckAllReduceSum(*communicator_); }

TEST_F(MpiTest, RowsDoNotDependOnCompany) { CheckRowsDoNotDependOnCompany(*communicator_); }

TEST_F(MpiTest, GathersAndBroadcastsTensors) { CheckGatherAndBroadcast(*communicator_); }

TEST_F(MpiTest, ReduceAddNormIsSumAndNorm) { CheckReduceAddNorm(*communicator_, *device_); }

// Between processes: that ranks see each other's memory, and wake each other. What rounds promise
// is tested between threads.
TEST_F(MpiTest, SharedMemoryAddsInRankOrder) { CheckAllReduceSum(*shared_); }

TEST_F(MpiTest, SharedMemoryGathersAndBroadcastsTensors) { CheckGatherAndBroadcast(*shared_); }

TEST_F(MpiTest, SharedReduceAddNormIsSumAndNorm) { CheckReduceAddNorm(*shared_, *device_); }

TEST_F(MpiTest, RanksThatSleepInSharedMemoryAreWoken) {
  Buffer exchange = shared_->AllocateExchange(64).value();
  const TensorView tensor = exchange.View(DType::kF32, {16});
  for (int late = 0; late < info_.size; ++late) {
    if (info_.rank == late) absl::SleepFor(absl::Milliseconds(30));
    for (int i = 0; i < 16; ++i) tensor.as<float>()[i] = RankValue(info_.rank, 7);
    shared_->AllReduceSum(tensor);
    EXPECT_EQ(tensor.as<float>()[15], SerialSum(info_.size, 7)) << "rank " << late << " is late";
  }
}

TEST_F(MpiTest, AWorldOnOneHostSharesMemory) {
  const auto chosen = CreateWorldCommunicator(world_, *device_, {});
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ((*chosen)->Name(), info_.size == 1 ? "single" : "shared");
}

TEST_F(MpiTest, NamesItself) {
  EXPECT_EQ(communicator_->Name(), info_.size == 1 ? "single" : "mpi");
  EXPECT_EQ(communicator_->rank(), info_.rank);
  EXPECT_EQ(communicator_->size(), info_.size);
}

TEST_F(MpiTest, OverMpiWhereThatIsAskedFor) {
  const auto chosen =
      CreateWorldCommunicator(world_, *device_, {.kind = CommunicatorKind::kMpi}).value();
  EXPECT_EQ(chosen->Name(), info_.size == 1 ? "single" : "mpi");
}

TEST_F(MpiTest, StagesWhatTheHostCannotReach) {
  DeferredDevice remote(*device_);
  const auto communicator =
      CreateWorldCommunicator(world_, remote, {.kind = CommunicatorKind::kMpi}).value();
  CheckStagedCollectives<float>(*communicator, remote);
}

TEST_F(MpiTest, PlansReachEveryRank) {
  const auto channel = CreateMpiPlanChannel(world_);
  PlanMessage message;
  for (uint32_t step = 1; step <= 300; ++step) {
    // Short ones and, now and then, one of several broadcasts' length.
    std::vector<uint8_t> payload(step % 50 == 0 ? step * 1000 : step * 7);
    for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<uint8_t>(step + i);
    if (info_.rank == 0) {
      ASSERT_TRUE(channel->Send(step, payload).ok());
      continue;
    }
    const absl::Status status = channel->Receive(&message);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(message.kind, step);
    ASSERT_EQ(message.step, step);
    ASSERT_EQ(message.payload, payload);
  }
}

TEST_F(MpiTest, IdleRanksSleepOnTheLinkUntilTheNextPlan) {
  const auto channel = CreateMpiPlanChannel(world_);
  const auto link = CreateTcpControlLink(world_, {}, [](const PeerLoss& loss) {
    ADD_FAILURE() << "lost rank " << loss.rank << ": " << loss.cause;
  });
  ASSERT_TRUE(link.ok()) << link.status();
  PlanMessage message;
  for (uint8_t round = 0; round < 100; ++round) {
    if (info_.rank == 0) {
      (*link)->Wake();  // as often as not before the others wait
      ASSERT_TRUE(channel->Send(1, {&round, 1}).ok());
      continue;
    }
    ASSERT_TRUE((*link)->WaitForWake(absl::Now() + absl::Seconds(60)).ok()) << round;
    ASSERT_TRUE(channel->Receive(&message).ok());
    ASSERT_EQ(message.payload, std::vector<uint8_t>{round});
  }
  world_.Barrier();
  (*link)->Close();
}

// One rank starts no NCCL, so any device will do.
TEST_F(MpiTest, RefusesNcclWhereItIsNotBuiltInOrTheDeviceIsNoGpu) {
  CommunicatorOptions options;
  options.kind = CommunicatorKind::kNccl;
  options.nccl.on_failure = [](const std::string& cause) { ADD_FAILURE() << cause; };
  const auto nccl = CreateWorldCommunicator(world_, *device_, options);
  if (info_.size == 1) {
    EXPECT_EQ(nccl.value()->Name(), "single");
    return;
  }
  EXPECT_THAT(std::string(nccl.status().message()),
              testing::AnyOf(testing::HasSubstr("this build has no NCCL; use the communicator mpi"),
                             testing::HasSubstr("has no CUDA stream")));
}

// Prints what fails, and nothing else.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestStart(const testing::TestInfo& info) override { test_ = info.name(); }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fprintf(stderr, "rank %d, %s: %s:%d: %s\n", rank_, test_.c_str(),
            result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
            result.message());
  }

  const int rank_;
  std::string test_;
};

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) {
  auto world = deltaserve::MpiWorld::Create(&argc, &argv);
  if (!world.ok()) {
    fprintf(stderr, "%s\n", world.status().ToString().c_str());
    return 1;
  }
  deltaserve::the_world = world->get();
  testing::InitGoogleTest(&argc, argv);
  const int rank = (*world)->info().rank;
  if (rank != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new deltaserve::FailurePrinter(rank));
  }
  const bool passed = RUN_ALL_TESTS() == 0;
  // One failing rank fails the run.
  int failing = -1;
  const absl::Status all = (*world)->AgreeOnStatus(
      passed ? absl::OkStatus() : absl::InternalError("tests failed"), &failing);
  if (!all.ok() && rank == failing) fprintf(stderr, "tests failed on rank %d\n", rank);
  return all.ok() ? 0 : 1;
}
