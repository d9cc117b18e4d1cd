#pragma once

// The Communicator over NCCL, for CUDA devices. nccl_communicator.cc, or no_nccl.cc in its place
// where the build has no CUDA device.

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"
#include "worker/comm/world.h"

namespace deltaserve {

struct NcclOptions {
  void* stream = nullptr;  // cudaStream_t of the device's queue
  // Of each phase of the start; how long ranks may come after one another.
  absl::Duration phase_timeout = absl::Seconds(120);
  // What NCCL was told by variables (NcclEnvironment) and which interfaces it has to reach the
  // others (NcclInterface), for the report of a start that fails.
  std::string environment = {};
  std::string interface = {};
  // Ends the world: NCCL has failed after the start. Called by the engine thread or by one of the
  // communicator's own, and must not return.
  std::function<void(const std::string& cause)> on_failure = {};
};

// Name "nccl". Collective: the ranks exchange NCCL's id over `world`, connect and sum a number,
// each phase within its time. Made and used by the thread whose current CUDA device is that of
// `device`; `world`, over which ranks agree before each exchange buffer too, and `device` outlive
// it. UNIMPLEMENTED, with the remedy, in a build without NCCL. Else the same on all ranks:
// DEADLINE_EXCEEDED, ABORTED or UNAVAILABLE where trying again may help, FAILED_PRECONDITION where
// not, with NCCL's own text, rank, host, device, interface, phase and environment.
absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(World& world,
                                                                     Device& device,
                                                                     const NcclOptions& options);

}  // namespace deltaserve
