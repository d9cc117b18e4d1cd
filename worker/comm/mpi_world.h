#pragma once

// MpiWorld: MPI from its first call to its last, and RankInfo made from it.

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/world.h"

namespace deltaserve {

// One a process, made first in main and destroyed last. MPI is initialised for many threads, but
// one thread at a time calls it: main at start and end, the engine thread between. A process that
// no mpirun started is a world of one rank.
class MpiWorld final : public World {
 public:
  // Initialises MPI, has SIGPIPE ignored (a survivor must not die of a peer's death before it has
  // named it) and finds out who this rank is: node = hosts counted by their lowest rank.
  // FAILED_PRECONDITION where MPI does not provide MPI_THREAD_MULTIPLE. `argc` and `argv` may be
  // null.
  static absl::StatusOr<std::unique_ptr<MpiWorld>> Create(int* argc, char*** argv);

  // Finalises MPI: waits for the other ranks, so every rank comes here or none.
  ~MpiWorld() override;
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  // A duplicate of MPI_COMM_WORLD that is ours alone; its errors are returned and checked.
  MPI_Comm comm() const { return comm_; }

  const RankInfo& info() const override { return info_; }
  std::vector<std::string> AllGather(const std::string& mine) override;
  std::string BroadcastFromZero(const std::string& bytes) override;

 private:
  MpiWorld() = default;

  MPI_Comm comm_ = MPI_COMM_NULL;
  RankInfo info_;
};

// Failed check with MPI's own text where `code` is not MPI_SUCCESS.
void CheckMpi(int code, const char* call);

}  // namespace deltaserve
