#pragma once

// Which Communicator a world gets.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_world.h"
#include "worker/comm/nccl_communicator.h"

namespace deltaserve {

enum class CommunicatorKind {
  kHost,  // shared memory where all ranks are on one host and can share it, else MPI
  kMpi,   // MPI; on a device that the host cannot reach, by way of pinned memory
  kNccl,
};

struct CommunicatorOptions {
  CommunicatorKind kind = CommunicatorKind::kHost;
  NcclOptions nccl = {};  // looked at for kNccl
};

// Collective; `world` and `device` outlive it. A world of one rank gets "single", whatever the
// kind, and starts nothing. Of kHost rank 0 logs which, and what kept ranks of one host from
// sharing. Errors are those of CreateNcclCommunicator.
absl::StatusOr<std::unique_ptr<Communicator>> CreateWorldCommunicator(
    MpiWorld& world, Device& device, const CommunicatorOptions& options);

}  // namespace deltaserve
