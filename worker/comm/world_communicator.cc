#include "worker/comm/world_communicator.h"

#include <string>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/shared_communicator.h"

namespace deltaserve {
namespace {

std::unique_ptr<Communicator> CreateHostCommunicator(MpiWorld& world, Device& device) {
  const RankInfo& info = world.info();
  const bool logs = info.rank == 0;
  auto shared = CreateSharedCommunicator(world, device);
  if (shared.ok()) {
    if (logs) {
      LogInfo(
          "collectives over shared memory, {} KB at a time: each rank adds all of up to {} KB, "
          "a slice of more",
          kSharedPieceBytes >> 10, OneShotBytes(info.size) >> 10);
    }
    return *std::move(shared);
  }
  const std::string cause(shared.status().message());
  if (logs && info.local_size == info.size) {
    LogWarning("collectives over MPI, slower than shared memory: {}", cause);
  } else if (logs) {
    LogInfo("collectives over MPI: {}", cause);
  }
  return CreateMpiCommunicator(world, device);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateWorldCommunicator(
    MpiWorld& world, Device& device, const CommunicatorOptions& options) {
  const RankInfo& info = world.info();
  if (info.size == 1) return CreateMpiCommunicator(world, device);
  switch (options.kind) {
    case CommunicatorKind::kHost:
      return CreateHostCommunicator(world, device);
    case CommunicatorKind::kMpi:
      if (info.rank == 0) {
        LogInfo("collectives over MPI{}",
                device.HostAddressable() ? "" : ", by way of pinned host memory");
      }
      return CreateMpiCommunicator(world, device);
    case CommunicatorKind::kNccl:
      return CreateNcclCommunicator(world, device, options.nccl);
  }
  DS_CHECK(false) << "communicator kind " << static_cast<int>(options.kind);
  return absl::InternalError("no such communicator");
}

}  // namespace deltaserve
