#pragma once

// The Communicator over MPI; tensors that the host cannot reach go through pinned memory.

#include <memory>

#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_world.h"

namespace deltaserve {

// Name "mpi", or "single" where the world has one rank. `world` and `device` outlive it.
std::unique_ptr<Communicator> CreateMpiCommunicator(const MpiWorld& world, Device& device);

}  // namespace deltaserve
