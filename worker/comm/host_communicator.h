#pragma once

// HostCommunicator: what communicators that reach tensors through host memory share: a world of
// one rank costs nothing, exchange buffers are known by address, tensors that the host cannot reach
// go through pinned memory, bytes and time are counted.

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/communicator.h"

namespace deltaserve {

// On a host-addressable device, which has done its work when an op returns, calls work on the
// tensors themselves. On another one each call waits for the queue, copies down, works on the host
// and enqueues the copy up; an error that the wait finds is a failed check. Where size is 1 no call
// does more than a copy on the queue. Sums of bf16 are made in f32 and rounded once.
class HostCommunicator : public Communicator {
 public:
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // From the device, without the others; AllReduceSum checks that its tensor lies in one.
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

  // What SumInRankOrder can do in place.
  bool SumsInPlace(TensorView tensor) const;
  // The sum of `inout` by way of staging_ and wide_.
  void SumStaged(TensorView inout);
  void GrowWide(size_t count);
  // Grows staging_, whose contents are lost, where tensors have to go through it.
  absl::Status GrowStaging(size_t bytes);
  // `tensor` in host memory, once all that was enqueued is done; to be used until the next call.
  void* Fetch(TensorView tensor);
  // Where the host may put what Store() then brings to `out`: `offset` of staging_, or `out`.
  void* Place(TensorView out, size_t offset);
  void Store(TensorView out, const void* placed);

  const int rank_;
  const int size_;
  Device& device_;
  const std::shared_ptr<ExchangeRegions> regions_;  // shared with the buffers given out
  Buffer staging_;                                  // pinned; empty where the host reaches tensors
  Buffer wide_;                                     // f32, of a bf16 tensor
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<int64_t> nanoseconds_{0};
};

// sum[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ..., parts[r] = parts + r * stride.
// f32 [num_parts, count]; sum may be parts[0], or apart from all.
void AddInRankOrder(const float* parts, size_t stride, int num_parts, size_t count, float* sum);

}  // namespace deltaserve
