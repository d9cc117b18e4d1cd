#pragma once

// Communicator: the collectives of one tensor-parallel group. Bound at creation to the queue of one
// Device.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve {

// Who this process is. Made once in main.
struct RankInfo {
  int rank = 0;
  int size = 1;
  int node = 0;        // index of the host in the world, by lowest rank
  int local_rank = 0;  // on this host
  int local_size = 1;
  std::string host;
};

// residual += sum over ranks of partial; out = RmsNorm(residual) (weight already 1 + w).
struct ReduceAddNormArgs {
  TensorView partial;   // reduction [rows, hidden], in an exchange buffer; may be overwritten
  TensorView residual;  // f32 [rows, hidden], in and out
  TensorView weight;    // f32 [hidden]
  float eps = 0;
  TensorView out;  // act [rows, hidden], may not alias partial
};

// What has gone through a communicator, for metrics.
struct CommunicatorStats {
  uint64_t calls = 0;
  uint64_t bytes = 0;  // of tensors as this rank brought them; 0 where there is one rank
  // Within the calls: with the wait for slower ranks, but over NCCL, whose calls only enqueue.
  absl::Duration time;
};

// One engine thread; every rank makes the same calls in the same order. Calls are enqueued; a
// failure after that ends the world (it is fatal, see docs/architecture) or surfaces when the
// Device is synchronised. A sum's bits are the same on all ranks. Over host memory sums are added
// in rank order at every size, so that they do not depend on how many rows travel together either;
// NCCL chooses its order by size.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string Name() const = 0;  // "shared", "mpi", "threads", "single", "nccl"

  // Memory that row-parallel outputs are written to, on the device; may be registered with the
  // network. Collective: all ranks ask for the same bytes, and none before it knows that the others
  // have come so far (World::AgreeOnStatus). A failure may be this rank's alone; agree on it too.
  virtual absl::StatusOr<Buffer> AllocateExchange(size_t bytes) = 0;

  // reduction, in place, in an exchange buffer: ranks' parts and their sum have that dtype.
  virtual void AllReduceSum(TensorView inout) = 0;
  // ReduceAddNorm exists as one call so that a fused all-reduce has a place.
  virtual void ReduceAddNorm(const ReduceAddNormArgs& args) = 0;
  // in: n elements on every rank; out: [size, n] in rank order.
  virtual void AllGather(TensorView in, TensorView out) = 0;
  // The same to rank `root` only; `out` is not looked at elsewhere.
  virtual void Gather(TensorView in, TensorView out, int root) = 0;
  virtual void Broadcast(TensorView inout, int root) = 0;

  // Since creation. Any thread.
  virtual CommunicatorStats Stats() const { return {}; }
};

}  // namespace deltaserve
