#pragma once

// Which Communicator a world of host-addressable devices gets.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_world.h"

namespace deltaserve {

// Shared memory where all ranks are on one host and can share it, else MPI. Rank 0 logs which, and
// what kept ranks of one host from sharing. Collective; `world` and `device` outlive it.
// FAILED_PRECONDITION on every rank where the devices' memory is out of the host's reach and
// size > 1.
absl::StatusOr<std::unique_ptr<Communicator>> CreateWorldCommunicator(MpiWorld& world,
                                                                      Device& device);

}  // namespace deltaserve
