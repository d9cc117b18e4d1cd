#pragma once

// What the CUDA driver of this host says before a GPU is opened. cuda_system.cc, or no_cuda.cc in
// its place in a build without CUDA.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaserve::cuda {

struct Gpu {
  std::string name = {};       // "NVIDIA H200"
  int compute_capability = 0;  // 90 is 9.0
};

// Versions as CUDA counts them: 13000 is 13.0.
struct System {
  int driver_version = 0;  // the newest CUDA that the driver knows; 0: no driver
  int runtime_version = 0;
  std::vector<Gpu> gpus = {};  // those that CUDA_VISIBLE_DEVICES leaves, by ordinal
  std::string error = {};      // CUDA's own, where it could not list GPUs for another reason
};

// The compute capability that this build's kernels are for, and no other.
inline constexpr int kComputeCapability = 90;

// UNIMPLEMENTED, as CreateCudaDevice, in a build without CUDA.
absl::StatusOr<System> QuerySystem();

// Bytes that are free on the calling thread's current GPU.
absl::StatusOr<int64_t> FreeMemory();

}  // namespace deltaserve::cuda
