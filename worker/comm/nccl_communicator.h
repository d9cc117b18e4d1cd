#pragma once

// The Communicator over NCCL, for CUDA devices. nccl_communicator.cc, or no_nccl.cc in its place
// where the build has no CUDA device.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/world.h"

namespace deltaserve {

// Name "nccl". Collective: the ranks exchange NCCL's id over `world`, which with `device` outlives
// it. UNIMPLEMENTED, with the remedy, in a build without NCCL.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(World& world, Device& device);

}  // namespace deltaserve
