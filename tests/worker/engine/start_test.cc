// A start of which something fails on one rank alone: every rank ends, with that one error.

#include <atomic>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/engine/fake_model.h"
#include "tests/worker/engine/pretend_world.h"
#include "tests/worker/engine/small_world.h"
#include "worker/comm/thread_communicator.h"
#include "worker/engine/executor.h"

namespace deltaserve {
namespace {

constexpr int64_t kNever = 1 << 30;
constexpr absl::Duration kPatience = absl::Seconds(20);

// A CPU that has no memory left after some allocations, or whose queue fails after some waits.
class FailingDevice final : public Device {
 public:
  FailingDevice(int64_t allocations, int64_t waits)
      : cpu_(*cpu::CreateCpuDevice({.num_threads = 1})), allocations_(allocations), waits_(waits) {}

  int64_t num_allocations() const { return num_allocations_; }

  std::string Name() const override { return "failing:0"; }
  bool HostAddressable() const override { return true; }
  const Numerics& numerics() const override { return cpu_->numerics(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    if (num_allocations_++ >= allocations_) return absl::ResourceExhaustedError("no memory here");
    return cpu_->Allocate(bytes, kind);
  }
  void CopyToDevice(TensorView dst, const void* src) override { cpu_->CopyToDevice(dst, src); }
  void CopyToHost(void* dst, TensorView src) override { cpu_->CopyToHost(dst, src); }
  void Copy(TensorView dst, TensorView src) override { cpu_->Copy(dst, src); }
  void Zero(TensorView dst) override { cpu_->Zero(dst); }
  absl::Status Synchronize() override { return cpu_->Synchronize(); }
  absl::Status Await(uint64_t point) override {
    if (num_waits_++ >= waits_) return absl::InternalError("the queue has failed");
    return cpu_->Await(point);
  }
  Ops& ops() override { return cpu_->ops(); }

 private:
  const std::unique_ptr<Device> cpu_;
  const int64_t allocations_;
  const int64_t waits_;
  int64_t num_allocations_ = 0;
  int64_t num_waits_ = 0;
};

// Makes exchange buffers known to all ranks, as a network does: who comes alone waits for ever, of
// which a ThreadWorld makes a failed check.
class RegisteringCommunicator final : public Communicator {
 public:
  RegisteringCommunicator(std::unique_ptr<Communicator> comm, World& world)
      : comm_(std::move(comm)), world_(world) {}

  int rank() const override { return comm_->rank(); }
  int size() const override { return comm_->size(); }
  std::string Name() const override { return "registering"; }
  absl::StatusOr<Buffer> AllocateExchange(size_t bytes) override {
    absl::StatusOr<Buffer> memory = comm_->AllocateExchange(bytes);
    EXPECT_EQ(world_.AllGather("exchange"), std::vector<std::string>(2, "exchange"));
    return memory;
  }
  void AllReduceSum(TensorView inout) override { comm_->AllReduceSum(inout); }
  void ReduceAddNorm(const ReduceAddNormArgs& args) override { comm_->ReduceAddNorm(args); }
  void AllGather(TensorView in, TensorView out) override { comm_->AllGather(in, out); }
  void Gather(TensorView in, TensorView out, int root) override { comm_->Gather(in, out, root); }
  void Broadcast(TensorView inout, int root) override { comm_->Broadcast(inout, root); }

 private:
  const std::unique_ptr<Communicator> comm_;
  World& world_;
};

TEST(StartTest, MemoryThatOneRankLacksIsTheErrorOfAll) {
  int64_t most = 1;
  for (int64_t allocations = 0; allocations <= most; ++allocations) {
    std::vector<absl::Status> ended(2);
    std::atomic<int64_t> asked = 0;
    ThreadWorld world(2, kPatience);
    const auto run = [&](int rank) {
      FailingDevice device(rank == 1 ? allocations : kNever, kNever);
      RegisteringCommunicator comm(CreateThreadCommunicator(world, rank, device),
                                   world.world(rank));
      const auto model = *CreateFakeModel(kModel, rank, 2);
      const auto executor =
          Executor::Create(world.world(rank), device, comm, *model, SmallEngine());
      ended[static_cast<size_t>(rank)] = executor.status();
      if (rank == 0) asked = device.num_allocations();
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    most = std::max(most, asked.load());
    const absl::Status expected =
        allocations < most ? absl::ResourceExhaustedError("no memory here") : absl::OkStatus();
    EXPECT_EQ(ended, std::vector<absl::Status>(2, expected)) << "after " << allocations;
  }
  EXPECT_GT(most, 8);  // caches, tables, rows, exchange
}

// In the steps of a warm-up ranks wait for each other: who fails there must not ask what the others
// think, which a ThreadWorld would see as another call than theirs, but go, so that the world ends.
TEST(StartTest, ARankThatFailsInWarmUpWaitsForNobody) {
  for (const int64_t waits : {0, 1, 2}) {
    absl::Status failed;
    ThreadWorld world(2, kPatience);
    const auto run = [&](int rank) {
      FailingDevice device(kNever, rank == 1 ? waits : kNever);
      const auto comm = CreateThreadCommunicator(world, rank, device);
      const auto model = *CreateFakeModel(kModel, rank, 2);
      const auto executor =
          *Executor::Create(world.world(rank), device, *comm, *model, SmallEngine());
      const absl::Status warm = executor->WarmUp(world.world(rank));
      if (rank == 0) return;
      failed = warm;
      world.Stop();  // as the end of its process
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    EXPECT_EQ(failed, absl::InternalError("the queue has failed")) << waits;
  }
}

}  // namespace
}  // namespace deltaserve
