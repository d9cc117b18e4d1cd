#pragma once

// What a GPU can do at best, for tools that compare ops with it: bytes copied within its memory,
// and the products that Linear is made of.

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace deltaserve::cuda {

// Rates a second.
struct GpuLimits {
  double copy_bytes = 0;  // read and written: twice what is copied
  double bf16_flops = 0;  // sums in f32; a multiplication and an addition are two
};

// The thread that made it; owns a Device with 2.4 GiB of the GPU's memory, for whose stream no
// other device waits: measure while those are idle.
class GpuLimitMeter {
 public:
  virtual ~GpuLimitMeter() = default;

  // Of CUDA ordinal `ordinal`. Errors are those of CreateCudaDevice and of its memory.
  static absl::StatusOr<std::unique_ptr<GpuLimitMeter>> Create(int ordinal);

  // Name, compute capability, multiprocessors, memory, versions of driver and runtime.
  virtual std::string Description() const = 0;

  // Some 15 ms on an H100: copies of a GiB, products of 8192 x 8192 matrices of random numbers.
  virtual absl::StatusOr<GpuLimits> Measure() = 0;
};

}  // namespace deltaserve::cuda
