#pragma once

// The Communicator of a ThreadWorld, and the one of a world of one rank.

#include <memory>

#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/thread_world.h"

namespace deltaserve {

// Name "threads" ("single" where the world has one rank). The same sums in the same order as over
// MPI. Used by the thread of `rank` only; `device` outlives it.
std::unique_ptr<Communicator> CreateThreadCommunicator(ThreadWorld& world,
                                                       int rank,
                                                       Device& device);

// Name "single": rank 0 of 1, for tools and tests that start no world. Any device.
std::unique_ptr<Communicator> CreateSingleCommunicator(Device& device);

}  // namespace deltaserve
