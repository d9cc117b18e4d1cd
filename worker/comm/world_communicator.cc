#include "worker/comm/world_communicator.h"

#include <string>

#include "kernels/base/log.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/shared_communicator.h"

namespace deltaserve {

absl::StatusOr<std::unique_ptr<Communicator>> CreateWorldCommunicator(MpiWorld& world,
                                                                      Device& device) {
  const RankInfo& info = world.info();
  if (info.size == 1 || !device.HostAddressable()) return CreateMpiCommunicator(world, device);
  const bool logs = info.rank == 0;
  auto shared = CreateSharedCommunicator(world, device);
  if (shared.ok()) {
    if (logs) {
      LogInfo(
          "collectives over shared memory, {} KB at a time: each rank adds all of up to {} KB, "
          "a slice of more",
          kSharedPieceBytes >> 10, OneShotBytes(info.size) >> 10);
    }
    return shared;
  }
  const std::string cause(shared.status().message());
  if (logs && info.local_size == info.size) {
    LogWarning("collectives over MPI, slower than shared memory: {}", cause);
  } else if (logs) {
    LogInfo("collectives over MPI: {}", cause);
  }
  return CreateMpiCommunicator(world, device);
}

}  // namespace deltaserve
