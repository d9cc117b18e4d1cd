#include "worker/comm/nccl_communicator.h"

#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/nccl_report.h"

namespace deltaserve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr absl::Duration kPollPeriod = absl::Milliseconds(1);     // of a phase of the start
constexpr absl::Duration kWatchPeriod = absl::Milliseconds(250);  // between looks while steps run
constexpr absl::Duration kEndTimeout = absl::Seconds(10);

std::string NcclText(ncclResult_t result, ncclComm_t comm) {
  const char* last = ncclGetLastError(comm);
  const std::string detail = last == nullptr ? "" : last;
  return absl::StrCat(ncclGetErrorString(result), detail.empty() ? "" : ": ", detail);
}

// What a start that failed with `result` is worth trying again.
absl::StatusCode CodeOf(ncclResult_t result) {
  const bool ours = result == ncclInvalidUsage || result == ncclInvalidArgument;
  return ours ? absl::StatusCode::kFailedPrecondition : absl::StatusCode::kUnavailable;
}

// The two communicators of NCCL. `start` does not block, so that each phase of the start has a
// deadline; but each of its collectives costs a thread of NCCL's, so steps use `steps`, split from
// it, which blocks and shares its connections. Engine thread, but for state(). Owners: the
// communicator and its exchange buffers.
class NcclGroup {
 public:
  NcclGroup() = default;
  ~NcclGroup() { End(); }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // Where a phase or a step has failed: ranks will not end in step.
  void SetFailed() { failed_ = true; }

  // Waits until nothing of `start` is under way: the state it is then in, ncclInProgress where the
  // deadline passes.
  ncclResult_t Await(absl::Time deadline) const {
    while (true) {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(start, &state);
      if (asked != ncclSuccess) return asked;
      if (state != ncclInProgress || absl::Now() >= deadline) return state;
      absl::SleepFor(kPollPeriod);
    }
  }

  ncclComm_t start = nullptr;
  ncclComm_t steps = nullptr;

 private:
  void End() {
    if (failed_) {
      if (steps != nullptr) ncclCommAbort(steps);
      if (start != nullptr) ncclCommAbort(start);
      return;
    }
    if (steps != nullptr) ncclCommDestroy(steps);
    if (start == nullptr) return;
    ncclCommFinalize(start);
    if (Await(absl::Now() + kEndTimeout) == ncclSuccess) {
      ncclCommDestroy(start);
    } else {
      ncclCommAbort(start);
    }
  }

  bool failed_ = false;
};

// Brings a group up, phase by phase. On the stack of CreateNcclCommunicator.
class NcclStart {
 public:
  NcclStart(World& world, Device& device, const NcclOptions& options)
      : world_(world),
        device_(device),
        options_(options),
        stream_(static_cast<cudaStream_t>(options.stream)),
        phase_{.rank = world.info(), .device = device.Name(), .environment = options.environment},
        group_(std::make_shared<NcclGroup>()) {}

  absl::StatusOr<std::shared_ptr<NcclGroup>> Run() {
    const absl::Status status = Phases();
    if (!status.ok()) {
      group_->SetFailed();
      return status;
    }
    return group_;
  }

 private:
  absl::Status Phases() {
    ncclUniqueId id = {};
    DS_RETURN_IF_ERROR(ShareId(&id));
    DS_RETURN_IF_ERROR(Connect(id));
    DS_RETURN_IF_ERROR(SumOnce());
    return Split();
  }

  absl::Status ShareId(ncclUniqueId* id) {
    Begin("making the id that ranks meet by");
    absl::Status made;
    if (phase_.rank.rank == 0) made = StatusOf(ncclGetUniqueId(id));
    DS_RETURN_IF_ERROR(world_.AgreeOnStatus(made));
    const std::string bytes =
        world_.BroadcastFromZero(std::string(id->internal, sizeof(id->internal)));
    DS_CHECK_EQ(bytes.size(), sizeof(id->internal));
    std::memcpy(id->internal, bytes.data(), bytes.size());
    return absl::OkStatus();
  }

  absl::Status Connect(const ncclUniqueId& id) {
    Begin("connecting the ranks");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.splitShare = 1;
    DS_RETURN_IF_ERROR(StatusOf(
        ncclCommInitRankConfig(&group_->start, phase_.rank.size, id, phase_.rank.rank, &config)));
    return Await();
  }

  // Connections are made by the first collective.
  absl::Status SumOnce() {
    Begin("a first sum over all ranks");
    constexpr size_t kCount = 1024;
    DS_ASSIGN_OR_RETURN(Buffer memory,
                        device_.Allocate(kCount * sizeof(float), MemoryKind::kDevice));
    device_.Zero(memory.View(DType::kF32, {kCount}));
    DS_RETURN_IF_ERROR(StatusOf(ncclAllReduce(memory.data(), memory.data(), kCount, ncclFloat32,
                                              ncclSum, group_->start, stream_)));
    absl::Status status = Await();
    while (status.ok()) {
      const cudaError_t queue = cudaStreamQuery(stream_);
      if (queue == cudaSuccess) return absl::OkStatus();
      if (queue != cudaErrorNotReady) {
        status = absl::UnavailableError(NcclReport(phase_, cudaGetErrorString(queue)));
      } else if (absl::Now() >= deadline_) {
        status = NcclTimedOut(phase_, options_.phase_timeout);
      } else {
        absl::SleepFor(kPollPeriod);
      }
    }
    // The sum would write to memory that is given back here.
    ncclCommAbort(std::exchange(group_->start, nullptr));
    return status;
  }

  absl::Status Split() {
    Begin("making the communicator of steps");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    DS_RETURN_IF_ERROR(
        StatusOf(ncclCommSplit(group_->start, 0, phase_.rank.rank, &group_->steps, &config)));
    DS_RETURN_IF_ERROR(Await());
    if (group_->steps == nullptr) {
      return absl::UnavailableError(NcclReport(phase_, "NCCL gave none"));
    }
    return absl::OkStatus();
  }

  void Begin(const char* phase) {
    phase_.phase = phase;
    deadline_ = absl::Now() + options_.phase_timeout;
  }

  absl::Status Await() {
    const ncclResult_t state = group_->Await(deadline_);
    return state == ncclInProgress ? NcclTimedOut(phase_, options_.phase_timeout) : StatusOf(state);
  }

  // Of a call or of the state: what is under way is no error.
  absl::Status StatusOf(ncclResult_t result) const {
    if (result == ncclSuccess || result == ncclInProgress) return absl::OkStatus();
    return absl::Status(CodeOf(result), NcclReport(phase_, NcclText(result, group_->start)));
  }

  World& world_;
  Device& device_;
  const NcclOptions& options_;
  const cudaStream_t stream_;
  NcclPhase phase_;
  absl::Time deadline_;
  const std::shared_ptr<NcclGroup> group_;
};

// Errors of the network come up in the state of the communicator, while the queue waits for ever:
// a thread looks at it. It makes no other call of NCCL's or CUDA's. Owner: NcclCommunicator.
class NcclWatch {
 public:
  NcclWatch(ncclComm_t comm, std::function<void(ncclResult_t)> on_error)
      : comm_(comm), on_error_(std::move(on_error)), thread_([this] { Run(); }) {}
  ~NcclWatch() {
    ending_.Notify();
    thread_.join();
  }
  NcclWatch(const NcclWatch&) = delete;
  NcclWatch& operator=(const NcclWatch&) = delete;

 private:
  void Run() {
    while (!ending_.WaitForNotificationWithTimeout(kWatchPeriod)) {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
      const ncclResult_t error = asked == ncclSuccess ? state : asked;
      if (error == ncclSuccess || error == ncclInProgress) continue;
      on_error_(error);
      return;
    }
  }

  const ncclComm_t comm_;
  const std::function<void(ncclResult_t)> on_error_;
  absl::Notification ending_;
  std::thread thread_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const RankInfo& info,
                   Device& device,
                   const NcclOptions& options,
                   std::shared_ptr<NcclGroup> group)
      : device_(device),
        options_(options),
        stream_(static_cast<cudaStream_t>(options.stream)),
        phase_{.rank = info,
               .device = device.Name(),
               .phase = "in a step",
               .environment = options.environment},
        group_(std::move(group)),
        comm_(group_->steps),
        watch_(comm_, [this](ncclResult_t error) { Fail(error, "found while the queue ran"); }) {}

  int rank() const override { return phase_.rank.rank; }
  int size() const override { return phase_.rank.size; }
  std::string Name() const override { return "nccl"; }

  absl::StatusOr<Buffer> AllocateExchange(size_t bytes) override;
  void AllReduceSum(TensorView inout) override;
  void ReduceAddNorm(const ReduceAddNormArgs& args) override;
  void AllGather(TensorView in, TensorView out) override;
  void Gather(TensorView in, TensorView out, int root) override;
  void Broadcast(TensorView inout, int root) override;

  CommunicatorStats Stats() const override {
    return {.calls = calls_.load(std::memory_order_relaxed),
            .bytes = bytes_.load(std::memory_order_relaxed),
            .time = absl::Nanoseconds(nanoseconds_.load(std::memory_order_relaxed))};
  }

 private:
  // Counts a call that moves `bytes` of this rank's, which `enqueue` makes; its error ends the
  // world.
  template <typename Enqueue>
  void Enqueued(const char* what, size_t bytes, Enqueue enqueue) {
    const auto start = Clock::now();
    const ncclResult_t result = enqueue();
    if (result != ncclSuccess) Fail(result, what);
    const std::chrono::nanoseconds took = Clock::now() - start;
    calls_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
    nanoseconds_.fetch_add(took.count(), std::memory_order_relaxed);
  }

  // The process ends without ncclCommAbort: that would let the step go on with wrong numbers, and
  // what it closes the end closes too.
  void Fail(ncclResult_t result, const char* what) {
    const std::string report =
        NcclReport(phase_, absl::StrCat(what, ": ", NcclText(result, comm_)));
    options_.on_failure(report);
    DS_CHECK(result == ncclSuccess) << report;
  }

  Device& device_;
  const NcclOptions options_;
  const cudaStream_t stream_;
  const NcclPhase phase_;
  const std::shared_ptr<NcclGroup> group_;
  const ncclComm_t comm_;
  bool told_of_windows_ = false;
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<int64_t> nanoseconds_{0};
  NcclWatch watch_;  // last: its thread uses the rest
};

// NCCL's type of what is summed.
ncclDataType_t SumType(TensorView tensor) {
  DS_CHECK(tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16) << tensor.ToString();
  return tensor.dtype() == DType::kF32 ? ncclFloat32 : ncclBfloat16;
}

absl::StatusOr<Buffer> NcclCommunicator::AllocateExchange(size_t bytes) {
  void* memory = nullptr;
  const ncclResult_t allocated = ncclMemAlloc(&memory, bytes);
  if (allocated != ncclSuccess) {
    return absl::ResourceExhaustedError(NcclReport(
        phase_, absl::StrCat("ncclMemAlloc of ", bytes, " bytes: ", NcclText(allocated, comm_))));
  }
  ncclWindow_t window = nullptr;
  const ncclResult_t registered =
      ncclCommWindowRegister(comm_, memory, bytes, &window, NCCL_WIN_COLL_SYMMETRIC);
  if (registered != ncclSuccess) {
    ncclMemFree(memory);
    return absl::UnavailableError(NcclReport(
        phase_, absl::StrCat("ncclCommWindowRegister of ", bytes, " bytes: ",
                             NcclText(registered, comm_), "; NCCL_WIN_ENABLE=0 does without")));
  }
  if (rank() == 0 && !std::exchange(told_of_windows_, true)) {
    LogInfo("collectives over NCCL, exchange buffers {}",
            window == nullptr ? "not registered: NCCL has no symmetric memory here"
                              : "registered for symmetric kernels");
  }
  return Buffer(memory, bytes, [group = group_, window](void* address) {
    if (window != nullptr) ncclCommWindowDeregister(group->steps, window);
    ncclMemFree(address);
  });
}

void NcclCommunicator::AllReduceSum(TensorView inout) {
  const ncclDataType_t type = SumType(inout);
  if (inout.numel() == 0) return;
  Enqueued("ncclAllReduce", inout.bytes(), [&] {
    return ncclAllReduce(inout.data(), inout.data(), static_cast<size_t>(inout.numel()), type,
                         ncclSum, comm_, stream_);
  });
}

void NcclCommunicator::ReduceAddNorm(const ReduceAddNormArgs& args) {
  AllReduceSum(args.partial);
  device_.ops().AddRmsNorm({.delta = args.partial,
                            .residual = args.residual,
                            .weight = args.weight,
                            .eps = args.eps,
                            .out = args.out});
}

void NcclCommunicator::AllGather(TensorView in, TensorView out) {
  DS_CHECK(in.dtype() == out.dtype() && out.numel() == in.numel() * size())
      << in.ToString() << " of " << size() << " ranks into " << out.ToString();
  if (in.numel() == 0) return;
  Enqueued("ncclAllGather", in.bytes(), [&] {
    return ncclAllGather(in.data(), out.data(), in.bytes(), ncclUint8, comm_, stream_);
  });
}

void NcclCommunicator::Gather(TensorView in, TensorView out, int root) {
  DS_CHECK(root >= 0 && root < size()) << "root " << root << " of " << size();
  const bool mine = rank() == root;
  DS_CHECK(!mine || (in.dtype() == out.dtype() && out.numel() == in.numel() * size()))
      << in.ToString() << " of " << size() << " ranks into " << out.ToString();
  if (in.numel() == 0) return;
  Enqueued("a gather of ncclSend and ncclRecv", in.bytes(), [&] {
    const size_t bytes = in.bytes();
    ncclResult_t result = ncclGroupStart();
    if (result == ncclSuccess) {
      result = ncclSend(in.data(), bytes, ncclUint8, root, comm_, stream_);
    }
    for (int peer = 0; mine && peer < size() && result == ncclSuccess; ++peer) {
      auto* const part = static_cast<std::byte*>(out.data()) + static_cast<size_t>(peer) * bytes;
      result = ncclRecv(part, bytes, ncclUint8, peer, comm_, stream_);
    }
    const ncclResult_t ended = ncclGroupEnd();
    return result == ncclSuccess ? ended : result;
  });
}

void NcclCommunicator::Broadcast(TensorView inout, int root) {
  DS_CHECK(root >= 0 && root < size()) << "root " << root << " of " << size();
  if (inout.numel() == 0) return;
  Enqueued("ncclBroadcast", inout.bytes(), [&] {
    return ncclBroadcast(inout.data(), inout.data(), inout.bytes(), ncclUint8, root, comm_,
                         stream_);
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(World& world,
                                                                     Device& device,
                                                                     const NcclOptions& options) {
  DS_CHECK(options.on_failure) << "nobody ends the world";
  if (options.stream == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "communicator nccl: ", device.Name(), " has no CUDA stream; use the communicator mpi"));
  }
  NcclStart start(world, device, options);
  DS_ASSIGN_OR_RETURN(std::shared_ptr<NcclGroup> group, start.Run());
  return std::make_unique<NcclCommunicator>(world.info(), device, options, std::move(group));
}

}  // namespace deltaserve
