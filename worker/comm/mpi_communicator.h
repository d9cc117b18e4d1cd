#pragma once

// The Communicator over MPI, for host-addressable devices.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_world.h"

namespace deltaserve {

// Name "mpi", or "single" where the world has one rank. `world` and `device` outlive it.
// FAILED_PRECONDITION where the device's memory is out of the host's reach and size > 1.
absl::StatusOr<std::unique_ptr<Communicator>> CreateMpiCommunicator(const MpiWorld& world,
                                                                    Device& device);

}  // namespace deltaserve
