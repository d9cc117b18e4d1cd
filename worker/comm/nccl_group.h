#pragma once

// NCCL's own communicators: how they start and end in step with the other ranks, and what is said
// of their errors. Compiled where NCCL is, as nccl_communicator.cc.

#include <nccl.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/world.h"

namespace deltaserve {

// The two communicators of a rank. `start` does not block, so that each phase of the start has a
// deadline; but each of its collectives costs a thread of NCCL's, so steps use `steps`, split from
// it, which blocks and shares its connections. Engine thread, but for ncclCommGetAsyncError of
// `steps`. Owners: the Communicator and its exchange buffers.
class NcclGroup {
 public:
  NcclGroup() = default;
  // In step with the other ranks, which end theirs; what was enqueued is done.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  // Ends both at once, whatever is under way: for a start that has failed, on whichever rank. Peers
  // see their connections closed.
  void Abort();

  // Waits until nothing of `start` is under way: the state it is then in, ncclInProgress where the
  // deadline passes.
  ncclResult_t Await(absl::Time deadline) const;

  ncclComm_t start = nullptr;
  ncclComm_t steps = nullptr;
};

// Collective; a failure is the same on all ranks, as World::AgreeOnStatus gives it. As
// CreateNcclCommunicator in the rest.
absl::StatusOr<std::shared_ptr<NcclGroup>> StartNccl(World& world,
                                                     Device& device,
                                                     const NcclOptions& options);

// cudaSuccess where all that was put on `stream` is done, cudaErrorNotReady where it is not, else
// what it failed with. Leaves no error behind that the next call would take for its own.
cudaError_t StateOf(cudaStream_t stream);

// What an error of the start or of an allocation is: FAILED_PRECONDITION, ABORTED where it is
// another's, or UNAVAILABLE.
absl::StatusCode CodeOf(ncclResult_t result);

// What NCCL says of `result`; of ncclUnhandledCudaError also what `stream`, or else this thread's
// last call of CUDA, has failed with: NCCL's calls fail too after a kernel that was enqueued before
// them has faulted. By a thread whose current device is that of the stream. `comm` may be null.
std::string NcclErrorText(ncclResult_t result, ncclComm_t comm, cudaStream_t stream);

}  // namespace deltaserve
