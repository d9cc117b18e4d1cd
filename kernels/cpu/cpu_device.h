#pragma once

// The CPU as a Device: host memory, AVX2 loops over a fixed pool of threads.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace deltaserve::cpu {

struct CpuOptions {
  int num_threads = 1;  // of this rank, the caller's included
};

// What the loops need of a processor.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool bmi2 = false;  // stands for the rest of x86-64-v3
};

CpuFeatures DetectCpuFeatures();

// OK, or FAILED_PRECONDITION naming the features that are missing.
absl::Status CheckCpuFeatures(const CpuFeatures& features);

// A device whose calls are done when they return. Owns its threads; bits of results do not depend
// on how many there are. INVALID_ARGUMENT for num_threads < 1, FAILED_PRECONDITION for a processor
// that lacks what the loops are compiled for.
absl::StatusOr<std::unique_ptr<Device>> CreateCpuDevice(const CpuOptions& options);

}  // namespace deltaserve::cpu
