// A start of which something fails on one rank alone: every rank ends, with that one error.

#include <fcntl.h>

#include <atomic>
#include <cstdlib>
#include <functional>
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

// A CPU that has no memory left after some allocations, or whose queue fails after some waits, or
// whose allocations are slow.
class FailingDevice final : public Device {
 public:
  FailingDevice(int64_t allocations, int64_t waits)
      : cpu_(*cpu::CreateCpuDevice({.num_threads = 1})), allocations_(allocations), waits_(waits) {}

  int64_t num_allocations() const { return num_allocations_; }
  // Each allocation before the wait of that number takes so long.
  void SlowDown(absl::Duration slow, int64_t until) {
    slow_ = slow;
    slow_until_ = until;
  }

  std::string Name() const override { return "failing:0"; }
  bool HostAddressable() const override { return true; }
  const Numerics& numerics() const override { return cpu_->numerics(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    if (num_allocations_++ >= allocations_) return absl::ResourceExhaustedError("no memory here");
    if (num_waits_ < slow_until_) absl::SleepFor(slow_);
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
  absl::Duration slow_;
  int64_t slow_until_ = 0;
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

// A rank's watchdog, which the test looks with, and what it has said.
struct LookedAfter {
  explicit LookedAfter(int rank)
      : last_words({.rank = rank, .size = 2, .host = "b"},
                   {.exit = [](int) {}, .output_fd = open("/dev/null", O_WRONLY | O_CLOEXEC)}),
        watchdog(last_words, {.period = absl::ZeroDuration(), .clock = [this] { return now; }}) {
    last_words.SetFarewell([this](const PeerLoss& root) { said = root; });
  }

  absl::Duration now = absl::Hours(1);
  PeerLoss said = {.exit_code = 0};
  LastWords last_words;
  Watchdog watchdog;
};

// A network that fails one rank in its `hanging`th call, without a word.
class HangingCommunicator final : public Communicator {
 public:
  HangingCommunicator(std::unique_ptr<Communicator> comm, int hanging, std::function<void()> hang)
      : comm_(std::move(comm)), hanging_(hanging), hang_(std::move(hang)) {}

  int rank() const override { return comm_->rank(); }
  int size() const override { return comm_->size(); }
  std::string Name() const override { return "hanging"; }
  absl::StatusOr<Buffer> AllocateExchange(size_t bytes) override {
    Call();
    return comm_->AllocateExchange(bytes);
  }
  void AllReduceSum(TensorView inout) override {
    Call();
    comm_->AllReduceSum(inout);
  }
  void ReduceAddNorm(const ReduceAddNormArgs& args) override {
    Call();
    comm_->ReduceAddNorm(args);
  }
  void AllGather(TensorView in, TensorView out) override {
    Call();
    comm_->AllGather(in, out);
  }
  void Gather(TensorView in, TensorView out, int root) override {
    Call();
    comm_->Gather(in, out, root);
  }
  void Broadcast(TensorView inout, int root) override {
    Call();
    comm_->Broadcast(inout, root);
  }

 private:
  void Call() {
    if (num_calls_++ == hanging_) hang_();
  }

  const std::unique_ptr<Communicator> comm_;
  const int hanging_;
  const std::function<void()> hang_;
  int num_calls_ = 0;
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
      LookedAfter looked(rank);
      const auto executor =
          Executor::Create(world.world(rank), device, comm, *model, SmallEngine(), looked.watchdog);
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
      LookedAfter looked(rank);
      const auto executor = *Executor::Create(world.world(rank), device, *comm, *model,
                                              SmallEngine(), looked.watchdog);
      const absl::Status warm = executor->WarmUp(world.world(rank), looked.watchdog);
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

// What rank 1's watchdog says where the network fails that rank in its `hanging`th call.
PeerLoss WordsOfAHangingRank(int hanging) {
  PeerLoss said;
  ThreadWorld world(2, kPatience);
  const auto run = [&](int rank) {
    const auto device = *cpu::CreateCpuDevice({.num_threads = 1});
    LookedAfter looked(rank);
    HangingCommunicator comm(CreateThreadCommunicator(world, rank, *device),
                             rank == 1 ? hanging : -1, [&] {
                               looked.now += absl::Seconds(119);
                               looked.watchdog.Look();
                               EXPECT_FALSE(looked.last_words.spoken());
                               looked.now += absl::Seconds(2);
                               looked.watchdog.Look();
                               said = looked.said;
                               world.Stop();  // as the end of its process
                             });
    const auto model = *CreateFakeModel(kModel, rank, 2);
    auto executor =
        Executor::Create(world.world(rank), *device, comm, *model, SmallEngine(), looked.watchdog);
    if (!executor.ok()) return;
    EXPECT_TRUE(looked.watchdog.health().idle);
    (void)(*executor)->WarmUp(world.world(rank), looked.watchdog);
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  return said;
}

TEST(StartTest, ARankThatTheNetworkHoldsEndsAndNamesThePhase) {
  for (const int hanging : {0, 1, 2, 5}) {
    const PeerLoss said = WordsOfAHangingRank(hanging);
    EXPECT_EQ(said.exit_code, kExitWatchdog);
    EXPECT_EQ(said.rank, 1);
    EXPECT_EQ(said.host, "b");
    const std::string phase = hanging == 0 ? "making the exchange buffer" : "a step of warm-up";
    EXPECT_EQ(said.cause, absl::StrCat("the start, ", phase,
                                       ", has run for 2m1s, 2m allowed: a rank hangs there, or "
                                       "cannot be reached"));
  }
}

// Memory of a GPU is had only when its queue has run out: what the scratch of a step takes while it
// is allocated piece by piece says nothing of steps.
TEST(StartTest, TheProbeDoesNotMeasureHowLongMemoryTakes) {
  constexpr absl::Duration kSlow = absl::Milliseconds(200);
  ThreadWorld world(1, kPatience);
  FailingDevice device(kNever, kNever);
  const auto comm = CreateThreadCommunicator(world, 0, device);
  const auto model = *CreateFakeModel(kModel, 0, 1);
  EngineOptions options = SmallEngine();
  options.token_budget = 0;
  LookedAfter looked(0);
  const auto executor =
      *Executor::Create(world.world(0), device, *comm, *model, options, looked.watchdog);
  device.SlowDown(kSlow, 2);
  const int64_t before = device.num_allocations();
  ASSERT_TRUE(executor->WarmUp(world.world(0), looked.watchdog).ok());
  EXPECT_GT(device.num_allocations(), before);
  EXPECT_LT(executor->probe_time(), kSlow);
  EXPECT_TRUE(looked.watchdog.health().idle);
}

}  // namespace
}  // namespace deltaserve
