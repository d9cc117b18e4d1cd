#include "worker/comm/mpi_world.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace deltaserve {
namespace {

std::string HostName() {
  char name[256] = {};
  DS_CHECK_EQ(gethostname(name, sizeof(name) - 1), 0) << "gethostname";
  return name;
}

// Every rank's value, in rank order.
std::vector<int> GatherInts(MPI_Comm comm, int size, int mine) {
  std::vector<int> all(static_cast<size_t>(size));
  CheckMpi(MPI_Allgather(&mine, 1, MPI_INT, all.data(), 1, MPI_INT, comm), "MPI_Allgather");
  return all;
}

RankInfo FindRankInfo(MPI_Comm comm) {
  RankInfo info;
  CheckMpi(MPI_Comm_rank(comm, &info.rank), "MPI_Comm_rank");
  CheckMpi(MPI_Comm_size(comm, &info.size), "MPI_Comm_size");
  info.host = HostName();

  MPI_Comm host_comm = MPI_COMM_NULL;
  CheckMpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, info.rank, MPI_INFO_NULL, &host_comm),
           "MPI_Comm_split_type");
  CheckMpi(MPI_Comm_rank(host_comm, &info.local_rank), "MPI_Comm_rank");
  CheckMpi(MPI_Comm_size(host_comm, &info.local_size), "MPI_Comm_size");
  const std::vector<int> on_host = GatherInts(host_comm, info.local_size, info.rank);
  CheckMpi(MPI_Comm_free(&host_comm), "MPI_Comm_free");

  const int lowest_here = *std::min_element(on_host.begin(), on_host.end());
  std::vector<int> lowest = GatherInts(comm, info.size, lowest_here);
  std::sort(lowest.begin(), lowest.end());
  lowest.erase(std::unique(lowest.begin(), lowest.end()), lowest.end());
  info.node =
      static_cast<int>(std::find(lowest.begin(), lowest.end(), lowest_here) - lowest.begin());
  return info;
}

}  // namespace

void CheckMpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  DS_CHECK(code == MPI_SUCCESS) << call << ": " << text;
}

absl::StatusOr<std::unique_ptr<MpiWorld>> MpiWorld::Create(int* argc, char*** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  int provided = MPI_THREAD_SINGLE;
  CheckMpi(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  if (provided != MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    return absl::FailedPreconditionError(
        absl::StrCat("MPI provides thread level ", provided, ", MPI_THREAD_MULTIPLE (",
                     MPI_THREAD_MULTIPLE, ") is needed: use an MPI that was built with it"));
  }
  std::unique_ptr<MpiWorld> world(new MpiWorld);
  CheckMpi(MPI_Comm_dup(MPI_COMM_WORLD, &world->comm_), "MPI_Comm_dup");
  CheckMpi(MPI_Comm_set_errhandler(world->comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  world->info_ = FindRankInfo(world->comm_);
  return world;
}

MpiWorld::~MpiWorld() {
  if (comm_ != MPI_COMM_NULL) CheckMpi(MPI_Comm_free(&comm_), "MPI_Comm_free");
  CheckMpi(MPI_Finalize(), "MPI_Finalize");
}

std::vector<std::string> MpiWorld::AllGather(const std::string& mine) {
  DS_CHECK_LE(mine.size(), static_cast<size_t>(std::numeric_limits<int>::max() / info_.size));
  const std::vector<int> sizes = GatherInts(comm_, info_.size, static_cast<int>(mine.size()));
  std::vector<int> starts(sizes.size(), 0);
  for (size_t i = 1; i < sizes.size(); ++i) starts[i] = starts[i - 1] + sizes[i - 1];
  std::string joined(static_cast<size_t>(starts.back() + sizes.back()), '\0');
  CheckMpi(MPI_Allgatherv(mine.data(), sizes[static_cast<size_t>(info_.rank)], MPI_BYTE,
                          joined.data(), sizes.data(), starts.data(), MPI_BYTE, comm_),
           "MPI_Allgatherv");
  std::vector<std::string> all;
  all.reserve(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    all.push_back(joined.substr(static_cast<size_t>(starts[i]), static_cast<size_t>(sizes[i])));
  }
  return all;
}

std::string MpiWorld::BroadcastFromZero(const std::string& bytes) {
  DS_CHECK_LE(bytes.size(), static_cast<size_t>(std::numeric_limits<int>::max()));
  int size = static_cast<int>(bytes.size());
  CheckMpi(MPI_Bcast(&size, 1, MPI_INT, 0, comm_), "MPI_Bcast");
  std::string result = info_.rank == 0 ? bytes : std::string(static_cast<size_t>(size), '\0');
  CheckMpi(MPI_Bcast(result.data(), size, MPI_BYTE, 0, comm_), "MPI_Bcast");
  return result;
}

}  // namespace deltaserve
