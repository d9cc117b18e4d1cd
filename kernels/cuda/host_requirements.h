#pragma once

// What a host must have for a rank to compute on one of its GPUs, in words for who started the
// rank. Plain numbers in, so that every refusal is tested without a GPU.

#include <cstddef>
#include <string>

#include "absl/status/status.h"

namespace deltaserve::cuda {

// Versions as CUDA counts them: 13000 is 13.0.
struct HostFacts {
  int runtime_version = 0;  // what this build was made with
  int driver_version = 0;   // the newest that the driver can run; 0 without a driver
  int num_gpus = 0;
};

struct GpuFacts {
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int major = 0;     // compute capability
  int minor = 0;
};

// FAILED_PRECONDITION: no driver, one too old, or fewer GPUs than `ordinal` (the rank's number on
// its host) needs.
absl::Status CheckHost(const HostFacts& host, int ordinal);

// FAILED_PRECONDITION: kernels are compiled for compute capability 9.0 only.
absl::Status CheckGpu(const GpuFacts& gpu, int ordinal);

// RESOURCE_EXHAUSTED
absl::Status NoMemory(int ordinal, size_t bytes, size_t free_bytes, size_t total_bytes);

}  // namespace deltaserve::cuda
