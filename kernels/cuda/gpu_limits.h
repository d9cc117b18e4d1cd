#pragma once

// What a GPU can do at best, for tools that compare ops with it: bytes copied within its memory,
// and bf16 matrix products by cuBLASLt.

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace deltaserve::cuda {

// Rates a second.
struct GpuLimits {
  double copy_bytes = 0;  // read and written: twice what is copied
  double bf16_flops = 0;  // sums in f32; a multiplication and an addition are two
};

// One engine thread; owns 2.4 GiB of the GPU's memory and a stream of its own, on which nothing of
// a Device waits: measure while that one is idle.
class GpuLimitMeter {
 public:
  virtual ~GpuLimitMeter() = default;

  // Of CUDA ordinal `ordinal`. UNIMPLEMENTED in a build without CUDA; what CUDA refuses is
  // INTERNAL.
  static absl::StatusOr<std::unique_ptr<GpuLimitMeter>> Create(int ordinal);

  // Name, compute capability, multiprocessors, memory, versions of driver and runtime.
  virtual std::string Description() const = 0;

  // Some 15 ms on an H100: copies of a GiB, products of 8192 x 8192 matrices of random numbers.
  virtual absl::StatusOr<GpuLimits> Measure() = 0;
};

}  // namespace deltaserve::cuda
