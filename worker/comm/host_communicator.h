#pragma once

// HostCommunicator: what communicators that reach tensors through host memory share: a world of
// one rank costs nothing, exchange buffers are known by address, bytes and time are counted.

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// The device must be host-addressable, have done its work when an op returns and reduce in f32,
// unless size is 1: then any device will do, and no call does more than a copy on its queue.
class HostCommunicator : public Communicator {
 public:
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // From the device; AllReduceSum checks that its tensor lies in one.
  absl::StatusOr<Buffer> AllocateExchange(size_t bytes) override;

  void AllReduceSum(TensorView inout) override;
  void ReduceAddNorm(const ReduceAddNormArgs& args) override;
  void AllGather(TensorView in, TensorView out) override;
  void Gather(TensorView in, TensorView out, int root) override;
  void Broadcast(TensorView inout, int root) override;
  CommunicatorStats Stats() const override;

 protected:
  HostCommunicator(int rank, int size, Device& device);

  // The same on host memory, called for size() > 1 and at least one element. Sums are
  // ((x0 + x1) + x2) + ... in rank order for every element, whatever `count`.
  virtual void SumInRankOrder(float* inout, size_t count) = 0;
  // What ReduceAddNorm adds, to be read until the next call: the sum, f32 [rows, hidden], or the
  // parts of all ranks that make it, f32 [size, rows, hidden].
  virtual TensorView SumOrParts(TensorView partial);
  virtual void AllGatherBytes(const void* in, void* out, size_t bytes) = 0;
  virtual void GatherBytes(const void* in, void* out, size_t bytes, int root) = 0;
  virtual void BroadcastBytes(void* inout, size_t bytes, int root) = 0;
  // AllocateExchange was called: scratch can be sized now, so that no step has to.
  virtual void ExchangeGrewTo(size_t bytes) = 0;

 private:
  class ExchangeRegions;
  class Counted;

  // Of the device's dtype of reductions, in an exchange buffer that lives.
  void CheckExchange(TensorView tensor) const;

  const int rank_;
  const int size_;
  Device& device_;
  const std::shared_ptr<ExchangeRegions> regions_;  // shared with the buffers given out
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<int64_t> nanoseconds_{0};
};

// sum[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ..., parts[r] = parts + r * stride.
// f32 [num_parts, count]; sum may be parts[0], or apart from all.
void AddInRankOrder(const float* parts, size_t stride, int num_parts, size_t count, float* sum);

// FAILED_PRECONDITION, naming `communicator`, where `size` ranks cannot reach each other's tensors
// on such devices through host memory, or cannot add them.
absl::Status CheckHostReach(const std::string& communicator, const Device& device, int size);

}  // namespace deltaserve
