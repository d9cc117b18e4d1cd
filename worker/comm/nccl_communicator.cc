#include "worker/comm/nccl_communicator.h"

#include <cuda_runtime.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/nccl_group.h"
#include "worker/comm/nccl_report.h"

namespace deltaserve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr absl::Duration kWatchPeriod = absl::Milliseconds(250);

// Errors of the network come up in the state of the communicator, while the queue waits for ever:
// a thread looks at it. It makes no other call of NCCL's or CUDA's until it has found one; its
// current CUDA device is that of the thread that makes it. Owner: NcclCommunicator.
class NcclWatch {
 public:
  NcclWatch(ncclComm_t comm, std::function<void(ncclResult_t)> on_error)
      : comm_(comm), on_error_(std::move(on_error)) {
    int ordinal = 0;
    DS_CHECK(cudaGetDevice(&ordinal) == cudaSuccess);
    thread_ = std::thread([this, ordinal] {
      DS_CHECK(cudaSetDevice(ordinal) == cudaSuccess) << ordinal;
      Run();
    });
  }
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
  NcclCommunicator(World& world,
                   Device& device,
                   const NcclOptions& options,
                   std::shared_ptr<NcclGroup> group)
      : world_(world),
        device_(device),
        options_(options),
        stream_(static_cast<cudaStream_t>(options.stream)),
        phase_{.rank = world.info(),
               .device = device.Name(),
               .interface = options.interface,
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
  // what it closes the end closes too (docs/adr/0021).
  void Fail(ncclResult_t result, const char* what) {
    const std::string report =
        NcclReport(phase_, absl::StrCat(what, ": ", NcclErrorText(result, comm_, stream_)));
    options_.on_failure(report);
    DS_CHECK(result == ncclSuccess) << report;
  }

  World& world_;
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

// Whether a failed ncclMemAlloc lacked memory: that it called CUDA's runtime for, which keeps the
// error, or the driver, whose error is in NCCL's words alone.
bool IsOutOfMemory(ncclResult_t result, ncclComm_t comm) {
  if (result != ncclUnhandledCudaError) return false;
  const char* last = ncclGetLastError(comm);
  return cudaPeekAtLastError() == cudaErrorMemoryAllocation ||
         (last != nullptr && absl::StrContains(last, "out of memory"));
}

absl::StatusOr<Buffer> NcclCommunicator::AllocateExchange(size_t bytes) {
  NcclPhase phase = phase_;
  phase.phase = "making an exchange buffer";
  void* memory = nullptr;
  const ncclResult_t allocated = ncclMemAlloc(&memory, bytes);
  absl::Status status;
  if (allocated != ncclSuccess) {
    const bool full = IsOutOfMemory(allocated, comm_);
    status = absl::Status(
        full ? absl::StatusCode::kResourceExhausted : CodeOf(allocated),
        NcclReport(phase,
                   absl::StrCat("ncclMemAlloc of ", bytes,
                                " bytes: ", NcclErrorText(allocated, comm_, stream_),
                                full ? "; a smaller --token-budget or --slots needs less" : "")));
  }
  // Within the next call the others would wait for a rank that has no memory.
  status = world_.AgreeOnStatus(status);
  ncclWindow_t window = nullptr;
  if (status.ok()) {
    const ncclResult_t registered =
        ncclCommWindowRegister(comm_, memory, bytes, &window, NCCL_WIN_COLL_SYMMETRIC);
    if (registered != ncclSuccess) {
      status = absl::UnavailableError(
          NcclReport(phase, absl::StrCat("ncclCommWindowRegister of ", bytes,
                                         " bytes: ", NcclErrorText(registered, comm_, stream_),
                                         "; NCCL_WIN_ENABLE=0 does without")));
    }
  }
  if (!status.ok()) {
    if (memory != nullptr) ncclMemFree(memory);
    return status;
  }
  if (rank() == 0 && !std::exchange(told_of_windows_, true)) {
    LogInfo("collectives over NCCL, exchange buffers {}",
            window == nullptr ? "not registered: NCCL has no symmetric memory here"
                              : "registered, for its symmetric kernels where it has them");
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
  DS_ASSIGN_OR_RETURN(std::shared_ptr<NcclGroup> group, StartNccl(world, device, options));
  return std::make_unique<NcclCommunicator>(world, device, options, std::move(group));
}

}  // namespace deltaserve
