#include "worker/comm/mpi_communicator.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "worker/comm/host_communicator.h"

namespace deltaserve {
namespace {

// Sums whose parts of all ranks fit into this take one gather of everything, larger ones an
// exchange of slices and a gather of sums: less traffic, but twice the latency. Same bits.
constexpr size_t kGatherBytes = size_t{64} << 10;
// Slices begin at multiples of so many elements, a cache line.
constexpr size_t kSliceGrain = 16;

int ToCount(size_t count) {
  DS_CHECK_LE(count, static_cast<size_t>(std::numeric_limits<int>::max()));
  return static_cast<int>(count);
}

class MpiCommunicator final : public HostCommunicator {
 public:
  MpiCommunicator(const MpiWorld& world, Device& device)
      : HostCommunicator(world.info().rank, world.info().size, device),
        comm_(world.comm()),
        counts_(static_cast<size_t>(size())),
        starts_(static_cast<size_t>(size())),
        part_counts_(static_cast<size_t>(size())),
        part_starts_(static_cast<size_t>(size())) {}

  std::string Name() const override { return size() == 1 ? "single" : "mpi"; }

 private:
  void SumInRankOrder(float* inout, size_t count) override {
    const auto ranks = static_cast<size_t>(size());
    if (count * ranks * sizeof(float) <= kGatherBytes) {
      GrowScratch(count * ranks * sizeof(float));
      auto* parts = static_cast<float*>(scratch_.data());
      CheckMpi(
          MPI_Allgather(inout, ToCount(count), MPI_FLOAT, parts, ToCount(count), MPI_FLOAT, comm_),
          "MPI_Allgather");
      AddInRankOrder(parts, count, size(), count, inout);
      return;
    }
    SumSlices(inout, count);
  }

  // Rank r gets everybody's slice r, adds them and gives the sums to all.
  void SumSlices(float* inout, size_t count) {
    const auto ranks = static_cast<size_t>(size());
    const size_t share = (count + ranks - 1) / ranks;
    const size_t slice = (share + kSliceGrain - 1) / kSliceGrain * kSliceGrain;
    ToCount(slice * ranks);
    for (size_t r = 0; r < ranks; ++r) {
      const size_t begin = std::min(count, r * slice);
      starts_[r] = static_cast<int>(begin);
      counts_[r] = static_cast<int>(std::min(count, begin + slice) - begin);
    }
    const int mine = counts_[static_cast<size_t>(rank())];
    for (size_t r = 0; r < ranks; ++r) {
      part_starts_[r] = static_cast<int>(r) * mine;
      part_counts_[r] = mine;
    }
    GrowScratch(slice * ranks * sizeof(float));
    auto* parts = static_cast<float*>(scratch_.data());
    CheckMpi(MPI_Alltoallv(inout, counts_.data(), starts_.data(), MPI_FLOAT, parts,
                           part_counts_.data(), part_starts_.data(), MPI_FLOAT, comm_),
             "MPI_Alltoallv");
    AddInRankOrder(parts, static_cast<size_t>(mine), size(), static_cast<size_t>(mine),
                   inout + starts_[static_cast<size_t>(rank())]);
    CheckMpi(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, inout, counts_.data(),
                            starts_.data(), MPI_FLOAT, comm_),
             "MPI_Allgatherv");
  }

  void AllGatherBytes(const void* in, void* out, size_t bytes) override {
    const int count = ToCount(bytes);
    CheckMpi(MPI_Allgather(in, count, MPI_BYTE, out, count, MPI_BYTE, comm_), "MPI_Allgather");
  }

  void GatherBytes(const void* in, void* out, size_t bytes, int root) override {
    const int count = ToCount(bytes);
    CheckMpi(MPI_Gather(in, count, MPI_BYTE, out, count, MPI_BYTE, root, comm_), "MPI_Gather");
  }

  void BroadcastBytes(void* inout, size_t bytes, int root) override {
    CheckMpi(MPI_Bcast(inout, ToCount(bytes), MPI_BYTE, root, comm_), "MPI_Bcast");
  }

  void ExchangeGrewTo(size_t bytes) override {
    const size_t padding = static_cast<size_t>(size()) * kSliceGrain * sizeof(float);
    GrowScratch(std::max(kGatherBytes, bytes + padding));
  }

  void GrowScratch(size_t bytes) {
    if (bytes > scratch_.bytes()) scratch_ = Buffer::AllocateHost(bytes);
  }

  const MPI_Comm comm_;
  Buffer scratch_;  // the parts of all ranks: f32 [size, count] or [size, slice]
  // In floats; of the slices within the tensor, and of the parts of my slice within scratch_.
  std::vector<int> counts_;
  std::vector<int> starts_;
  std::vector<int> part_counts_;
  std::vector<int> part_starts_;
};

}  // namespace

std::unique_ptr<Communicator> CreateMpiCommunicator(const MpiWorld& world, Device& device) {
  return std::make_unique<MpiCommunicator>(world, device);
}

}  // namespace deltaserve
