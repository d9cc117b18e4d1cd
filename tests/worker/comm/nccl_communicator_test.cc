// The communicator over NCCL, run against a stand-in for NCCL that looks at what it is asked.

#include "worker/comm/nccl_communicator.h"

#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/worker/comm/collective_checks.h"
#include "tests/worker/comm/fake_nccl.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/thread_world.h"

namespace deltaserve {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

// One rank of a world on the stand-in.
struct FakeRank {
  int rank;
  World& world;
  Device& device;
  NcclOptions options;

  absl::StatusOr<std::unique_ptr<Communicator>> Start() const {
    return CreateNcclCommunicator(world, device, options);
  }
};

// A failure in a step ends this process, as LastWords::Die does.
void DieOf(const std::string& cause) {
  std::fprintf(stderr, "%s\n", cause.c_str());
  _exit(71);
}

void RunOver(FakeNccl& nccl, int size, const std::function<void(const FakeRank&)>& body) {
  ThreadWorld world(size);
  RunRanks(size, [&](int rank) {
    cudaSetDevice(rank);
    const auto device = cpu::CreateCpuDevice({.num_threads = 1}).value();
    NcclOptions options;
    options.stream = nccl.stream(rank);
    options.environment = "NCCL_DEBUG=INFO";
    options.interface = "interface eth0 10.0.0.2";
    options.on_failure = DieOf;
    body({rank, world.world(rank), *device, options});
  });
}

constexpr absl::Duration kShort = absl::Milliseconds(300);
constexpr absl::Duration kLong = absl::Seconds(100);

// What a start gives each rank.
std::vector<absl::Status> StartAll(FakeNccl& nccl, int size, absl::Duration timeout) {
  std::vector<absl::Status> started(static_cast<size_t>(size));
  RunOver(nccl, size, [&](FakeRank rank) {
    rank.options.phase_timeout = timeout;
    started[static_cast<size_t>(rank.rank)] = rank.Start().status();
  });
  return started;
}

class NcclCommunicatorTest : public testing::TestWithParam<int> {
 protected:
  void TearDown() override { EXPECT_THAT(nccl_.Problems(), IsEmpty()); }

  FakeNccl nccl_{GetParam()};
};

TEST_P(NcclCommunicatorTest, GivesEveryRankWhatAllBring) {
  RunOver(nccl_, GetParam(), [&](const FakeRank& rank) {
    const auto communicator = rank.Start().value();
    EXPECT_EQ(communicator->Name(), "nccl");
    EXPECT_EQ(communicator->rank(), rank.rank);
    EXPECT_EQ(communicator->size(), GetParam());
    CheckAllReduceSum(*communicator, {0, 1, 3, 1000, 4097});
    CheckGatherAndBroadcast(*communicator);
    CheckReduceAddNorm(*communicator, rank.device, 0, 96);
    CheckReduceAddNorm(*communicator, rank.device, 33, 101);
  });
}

TEST_P(NcclCommunicatorTest, SumsOfBf16AreOfBf16) {
  RunOver(nccl_, GetParam(), [&](const FakeRank& rank) {
    const auto communicator = rank.Start().value();
    const Buffer exchange = communicator->AllocateExchange(2 * sizeof(BFloat16)).value();
    const TensorView sum = exchange.View(DType::kBF16, {2});
    sum.as<BFloat16>()[0] = ToBFloat16(static_cast<float>(rank.rank + 1));
    sum.as<BFloat16>()[1] = ToBFloat16(0.5F);
    communicator->AllReduceSum(sum);
    const auto ranks = static_cast<float>(GetParam());
    EXPECT_EQ(ToFloat(sum.as<BFloat16>()[0]), ranks * (ranks + 1) / 2);
    EXPECT_EQ(ToFloat(sum.as<BFloat16>()[1]), 0.5F * ranks);
    EXPECT_EQ(communicator->Stats().calls, 1U);
    EXPECT_EQ(communicator->Stats().bytes, 4U);
  });
}

// "Not ready" of a stream is no error, but stays where the next launch of a kernel looks for its
// own.
TEST_P(NcclCommunicatorTest, AStartLeavesNoErrorToTheNextLaunch) {
  RunOver(nccl_, GetParam(), [](const FakeRank& rank) {
    const auto communicator = rank.Start();
    EXPECT_TRUE(communicator.ok()) << communicator.status();
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  });
}

TEST_P(NcclCommunicatorTest, DoesWithoutWindowsWhereNcclHasNone) {
  nccl_.TakeWindowsAway();
  RunOver(nccl_, GetParam(), [](const FakeRank& rank) {
    CheckAllReduceSum(*rank.Start().value(), {17});
    EXPECT_EQ(rank.rank, rank.world.info().rank);
  });
  EXPECT_EQ(nccl_.NumCalls(0, "ncclCommWindowDeregister"), 0);
}

TEST_P(NcclCommunicatorTest, ExchangeBuffersAreKnownToNccl) {
  RunOver(nccl_, GetParam(), [](const FakeRank& rank) {
    const auto communicator = rank.Start().value();
    Buffer first = communicator->AllocateExchange(100).value();
    const Buffer second = communicator->AllocateExchange(5000).value();
    first = Buffer();  // the other stays
    EXPECT_EQ(second.bytes(), 5000U);
  });
  EXPECT_EQ(nccl_.NumCalls(0, "ncclCommWindowRegister"), 2);
  EXPECT_EQ(nccl_.NumCalls(0, "ncclCommWindowDeregister"), 2);
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclCommunicatorTest, testing::Values(1, 2, 3));

// One rank fails in one phase, at once or later: all end with what it says.
constexpr auto kFails = FakeNccl::Trouble::kFails;
constexpr auto kFailsLater = FakeNccl::Trouble::kFailsLater;
using Failure = std::tuple<const char*, const char*, int, FakeNccl::Trouble>;
class NcclStartTest : public testing::TestWithParam<Failure> {};

TEST_P(NcclStartTest, EndsEveryRankWithTheCauseOfTheOneThatFails) {
  const auto& [call, phase, failing, trouble] = GetParam();
  // Who has no communicator yet has nothing by which others could hear that it has failed.
  const bool unheard = std::string(call) == "ncclCommInitRankConfig" && trouble == kFails;
  for (const ncclResult_t result : {ncclSystemError, ncclInvalidUsage}) {
    FakeNccl nccl(3);
    nccl.Make(trouble, failing, call, result);
    const absl::Time begin = absl::Now();
    const std::vector<absl::Status> started = StartAll(nccl, 3, unheard ? kShort : kLong);
    EXPECT_LT(absl::Now() - begin, kLong / 2);
    EXPECT_THAT(started, Each(started.front()));
    EXPECT_EQ(started.front().code(), result == ncclSystemError
                                          ? absl::StatusCode::kUnavailable
                                          : absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(
        std::string(started.front().message()),
        AllOf(HasSubstr(absl::StrCat("rank ", failing, " of 3 on thread-world, cpu")),
              HasSubstr(", interface eth0 10.0.0.2: "),
              HasSubstr(absl::StrCat("NCCL, ", phase, ": ")), HasSubstr(ncclGetErrorString(result)),
              HasSubstr("the last warning"), HasSubstr("environment: NCCL_DEBUG=INFO")));
    EXPECT_EQ(nccl.NumCalls(0, "ncclCommFinalize"), 0);  // which awaits those that have aborted
    EXPECT_THAT(nccl.Problems(), IsEmpty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Phases,
    NcclStartTest,
    testing::Values(Failure("ncclGetUniqueId", "making the id that ranks meet by", 0, kFails),
                    Failure("ncclCommInitRankConfig", "connecting the ranks", 0, kFails),
                    Failure("ncclCommInitRankConfig", "connecting the ranks", 2, kFails),
                    Failure("ncclCommInitRankConfig", "connecting the ranks", 2, kFailsLater),
                    Failure("ncclAllReduce", "a first sum over all ranks", 1, kFails),
                    Failure("ncclAllReduce", "a first sum over all ranks", 2, kFailsLater),
                    Failure("ncclCommSplit", "making the communicator of steps", 1, kFails),
                    Failure("ncclCommSplit", "making the communicator of steps", 2, kFailsLater)));

// A rank of which nothing is heard within NCCL: no other waits longer than a phase may take.
TEST(NcclStallTest, EndsEveryRankAtTheDeadlineOfThePhase) {
  for (const char* const call : {"ncclCommInitRankConfig", "ncclAllReduce", "ncclCommSplit"}) {
    FakeNccl nccl(2);
    nccl.Make(FakeNccl::Trouble::kStalls, 1, call, ncclSuccess);
    const std::vector<absl::Status> started = StartAll(nccl, 2, kShort);
    EXPECT_THAT(started, Each(started.front())) << call;
    EXPECT_THAT(started.front().code(), AnyOf(absl::StatusCode::kDeadlineExceeded,
                                              absl::StatusCode::kAborted));  // whose comes first
    EXPECT_THAT(nccl.Problems(), IsEmpty()) << call;
  }
}

TEST(NcclStartFaultTest, NamesTheErrorOfAQueueThatHasFailed) {
  FakeNccl nccl(2);
  nccl.FailStream(1, cudaErrorIllegalAddress);
  const std::vector<absl::Status> started = StartAll(nccl, 2, kLong);
  EXPECT_THAT(started, Each(started.front()));
  EXPECT_THAT(std::string(started.front().message()),
              AllOf(HasSubstr("rank 1 of 2"), HasSubstr("a first sum over all ranks"),
                    HasSubstr("cudaErrorIllegalAddress"),
                    HasSubstr("perhaps in a kernel that was enqueued before")));
  EXPECT_EQ(nccl.NumCalls(0, "ncclCommFinalize"), 0);  // though nothing has failed there
  EXPECT_THAT(nccl.Problems(), IsEmpty());
}

TEST(NcclStartFaultTest, ADeviceWithoutAStreamStopsEveryRank) {
  FakeNccl nccl(2);
  std::vector<absl::Status> started(2);
  RunOver(nccl, 2, [&](FakeRank rank) {
    if (rank.rank == 1) rank.options.stream = nullptr;
    started[static_cast<size_t>(rank.rank)] = rank.Start().status();
  });
  EXPECT_THAT(started, Each(started.front()));
  EXPECT_EQ(started.front().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(started.front().message()), HasSubstr("has no CUDA stream"));
}

// Else the others would wait within ncclCommWindowRegister.
TEST(NcclExchangeTest, MemoryThatOneRankLacksIsTheErrorOfAll) {
  FakeNccl nccl(3);
  nccl.Make(kFails, 1, "ncclMemAlloc", ncclUnhandledCudaError);
  std::vector<absl::Status> allocated(3);
  RunOver(nccl, 3, [&](const FakeRank& rank) {
    const auto communicator = rank.Start().value();
    allocated[static_cast<size_t>(rank.rank)] = communicator->AllocateExchange(123).status();
  });
  EXPECT_THAT(allocated, Each(allocated.front()));
  EXPECT_EQ(allocated.front().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(allocated.front().message()),
              AllOf(HasSubstr("rank 1 of 3"), HasSubstr("NCCL, making an exchange buffer: "),
                    HasSubstr("ncclMemAlloc of 123 bytes"), HasSubstr("unhandled cuda error"),
                    HasSubstr("cudaErrorMemoryAllocation"), HasSubstr("--token-budget")));
  EXPECT_EQ(nccl.NumCalls(0, "ncclCommWindowRegister"), 0);
  EXPECT_THAT(nccl.Problems(), IsEmpty());
}

// A driver's error is in NCCL's words alone. What else fails is not helped by less memory.
TEST(NcclExchangeTest, OnlyALackOfMemoryIsOne) {
  constexpr char kFull[] = "Cuda failure 2 'out of memory'";
  const struct {
    ncclResult_t result;
    cudaError_t error;
    const char* warning;
    absl::StatusCode code;
  } cases[] = {
      {ncclUnhandledCudaError, cudaSuccess, kFull, absl::StatusCode::kResourceExhausted},
      {ncclUnhandledCudaError, cudaErrorIllegalAddress, "", absl::StatusCode::kUnavailable},
      {ncclSystemError, cudaSuccess, kFull, absl::StatusCode::kUnavailable},
      {ncclInvalidUsage, cudaSuccess, "", absl::StatusCode::kFailedPrecondition},
  };
  for (const auto& c : cases) {
    FakeNccl nccl(1);
    nccl.Make(kFails, 0, "ncclMemAlloc", c.result);
    nccl.SayOfMemory(c.error, c.warning);
    RunOver(nccl, 1, [&](const FakeRank& rank) {
      const absl::Status status = rank.Start().value()->AllocateExchange(123).status();
      EXPECT_EQ(status.code(), c.code) << status;
      EXPECT_EQ(absl::StrContains(status.message(), "--token-budget"),
                c.code == absl::StatusCode::kResourceExhausted)
          << status;
    });
    EXPECT_THAT(nccl.Problems(), IsEmpty());
  }
}

// Runs `step` on two ranks of which the second has then failed; never returns.
void FailInAStep(const std::function<void(FakeNccl&)>& fail, bool both_call) {
  FakeNccl nccl(2);
  RunOver(nccl, 2, [&](const FakeRank& rank) {
    const auto communicator = rank.Start().value();
    const Buffer exchange = communicator->AllocateExchange(4).value();
    communicator->AllReduceSum(exchange.View(DType::kF32, {1}));
    rank.world.Barrier();
    if (rank.rank == 1) fail(nccl);
    if (rank.rank == 1 || both_call) communicator->AllReduceSum(exchange.View(DType::kF32, {1}));
    absl::SleepFor(absl::Seconds(60));
  });
}

TEST(NcclStepDeathTest, ACallThatFailsAfterAFaultNamesTheFault) {
  const auto fault = [](FakeNccl& nccl) {
    nccl.FailStream(1, cudaErrorIllegalAddress);
    nccl.Make(kFails, 1, "ncclAllReduce", ncclUnhandledCudaError);
  };
  EXPECT_EXIT(FailInAStep(fault, true), testing::ExitedWithCode(71),
              "rank 1 of 2 .*in a step: ncclAllReduce: unhandled cuda error: the last warning; "
              "CUDA has failed with cudaErrorIllegalAddress .*a kernel that was enqueued before");
}

TEST(NcclStepDeathTest, TheStateOfTheCommunicatorIsWatchedWhileTheQueueWaits) {
  // Rank 1 is within a sum to which rank 0 does not come.
  const auto set_later = [](FakeNccl& nccl, ncclResult_t state) {
    std::thread([&nccl, state] {
      absl::SleepFor(absl::Milliseconds(50));
      nccl.SetState(1, state);
    }).detach();
  };
  const auto lose = [&](FakeNccl& nccl) { set_later(nccl, ncclRemoteError); };
  EXPECT_EXIT(FailInAStep(lose, false), testing::ExitedWithCode(71),
              "rank 1 of 2 .*in a step: found while the queue ran: remote process exited");
  const auto fault = [&](FakeNccl& nccl) {
    nccl.FailStream(1, cudaErrorMisalignedAddress);
    set_later(nccl, ncclUnhandledCudaError);
  };
  EXPECT_EXIT(FailInAStep(fault, false), testing::ExitedWithCode(71),
              "in a step: found while the queue ran: unhandled cuda error.*; CUDA has failed with "
              "cudaErrorMisalignedAddress");
}

}  // namespace
}  // namespace deltaserve
