#include "worker/comm/nccl_communicator.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(
    World& /*world*/, Device& /*device*/, const NcclOptions& /*options*/) {
  return absl::UnimplementedError(
      "communicator nccl: this build has no NCCL; use the communicator mpi, or configure with "
      "-DDELTASERVE_CUDA=ON (preset cuda) on a machine that has nvcc and NCCL");
}

}  // namespace deltaserve
