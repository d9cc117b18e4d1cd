#include "worker/comm/nccl_group.h"

#include <cuda_runtime.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/nccl_report.h"

namespace deltaserve {
namespace {

constexpr absl::Duration kPollPeriod = absl::Milliseconds(1);
constexpr absl::Duration kEndTimeout = absl::Seconds(10);

// Brings a group up, phase by phase; no rank goes on to a phase that another does not. On the stack
// of StartNccl.
class NcclStart {
 public:
  NcclStart(World& world, Device& device, const NcclOptions& options)
      : world_(world),
        device_(device),
        options_(options),
        stream_(static_cast<cudaStream_t>(options.stream)),
        phase_{.rank = world.info(),
               .device = device.Name(),
               .interface = options.interface,
               .environment = options.environment},
        group_(std::make_shared<NcclGroup>()) {}

  absl::StatusOr<std::shared_ptr<NcclGroup>> Run() {
    ncclUniqueId id = {};
    DS_RETURN_IF_ERROR(Agree(MakeId(&id)));
    const std::string bytes =
        world_.BroadcastFromZero(std::string(id.internal, sizeof(id.internal)));
    DS_CHECK_EQ(bytes.size(), sizeof(id.internal));
    std::memcpy(id.internal, bytes.data(), bytes.size());
    DS_RETURN_IF_ERROR(Agree(Connect(id)));
    DS_RETURN_IF_ERROR(Agree(AllocateSum()));
    DS_RETURN_IF_ERROR(Agree(SumOnce()));
    DS_RETURN_IF_ERROR(Agree(Split()));
    return group_;
  }

 private:
  // Aborts before it waits for the others too, which may be waiting for this rank within NCCL.
  absl::Status Agree(const absl::Status& mine) {
    if (!mine.ok()) group_->Abort();
    absl::Status agreed = world_.AgreeOnStatus(mine);
    if (!agreed.ok()) group_->Abort();
    return agreed;
  }

  absl::Status MakeId(ncclUniqueId* id) {
    Begin("making the id that ranks meet by");
    if (stream_ == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          "communicator nccl: ", device_.Name(), " has no CUDA stream; use the communicator mpi"));
    }
    return phase_.rank.rank == 0 ? StatusOf(ncclGetUniqueId(id)) : absl::OkStatus();
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

  absl::Status AllocateSum() {
    DS_ASSIGN_OR_RETURN(summed_, device_.Allocate(kSummed * sizeof(float), MemoryKind::kDevice));
    device_.Zero(summed_.View(DType::kF32, {kSummed}));
    return absl::OkStatus();
  }

  // Connections are made by the first collective.
  absl::Status SumOnce() {
    Begin("a first sum over all ranks");
    DS_RETURN_IF_ERROR(StatusOf(ncclAllReduce(summed_.data(), summed_.data(), kSummed, ncclFloat32,
                                              ncclSum, group_->start, stream_)));
    DS_RETURN_IF_ERROR(Await());
    while (true) {
      const cudaError_t state = StateOf(stream_);
      if (state == cudaSuccess) return absl::OkStatus();
      if (state != cudaErrorNotReady) return StatusOf(ncclUnhandledCudaError);
      // What fails from here on is in the state of the communicator, and the queue waits for ever.
      DS_RETURN_IF_ERROR(Await());
      if (absl::Now() >= deadline_) return NcclTimedOut(phase_, options_.phase_timeout);
      absl::SleepFor(kPollPeriod);
    }
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
    return absl::Status(CodeOf(result),
                        NcclReport(phase_, NcclErrorText(result, group_->start, stream_)));
  }

  static constexpr int64_t kSummed = 1024;

  World& world_;
  Device& device_;
  const NcclOptions& options_;
  const cudaStream_t stream_;
  NcclPhase phase_;
  absl::Time deadline_;
  Buffer summed_;  // to the end, so that a sum that is aborted does not write to another's memory
  const std::shared_ptr<NcclGroup> group_;
};

}  // namespace

absl::StatusCode CodeOf(ncclResult_t result) {
  switch (result) {
    case ncclInvalidUsage:
    case ncclInvalidArgument:
      return absl::StatusCode::kFailedPrecondition;
    case ncclRemoteError:
      return absl::StatusCode::kAborted;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

NcclGroup::~NcclGroup() {
  if (steps != nullptr) ncclCommDestroy(steps);
  if (start == nullptr) return;
  ncclCommFinalize(start);
  if (Await(absl::Now() + kEndTimeout) == ncclSuccess) {
    ncclCommDestroy(start);
  } else {
    ncclCommAbort(start);
  }
}

void NcclGroup::Abort() {
  if (steps != nullptr) ncclCommAbort(std::exchange(steps, nullptr));
  if (start != nullptr) ncclCommAbort(std::exchange(start, nullptr));
}

ncclResult_t NcclGroup::Await(absl::Time deadline) const {
  while (true) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(start, &state);
    if (asked != ncclSuccess) return asked;
    if (state != ncclInProgress || absl::Now() >= deadline) return state;
    absl::SleepFor(kPollPeriod);
  }
}

absl::StatusOr<std::shared_ptr<NcclGroup>> StartNccl(World& world,
                                                     Device& device,
                                                     const NcclOptions& options) {
  return NcclStart(world, device, options).Run();
}

cudaError_t StateOf(cudaStream_t stream) {
  const cudaError_t state = cudaStreamQuery(stream);
  if (state == cudaErrorNotReady) cudaGetLastError();
  return state;
}

std::string NcclErrorText(ncclResult_t result, ncclComm_t comm, cudaStream_t stream) {
  const char* last = ncclGetLastError(comm);
  std::string text = ncclGetErrorString(result);
  if (last != nullptr && *last != '\0') absl::StrAppend(&text, ": ", last);
  if (result != ncclUnhandledCudaError) return text;
  cudaError_t fault = StateOf(stream);
  if (fault == cudaSuccess || fault == cudaErrorNotReady) fault = cudaPeekAtLastError();
  if (fault == cudaSuccess) return text;
  return absl::StrCat(text, "; CUDA has failed with ", cudaGetErrorName(fault), " (",
                      cudaGetErrorString(fault),
                      "), perhaps in a kernel that was enqueued before: CUDA_LAUNCH_BLOCKING=1 "
                      "shows which");
}

}  // namespace deltaserve
