#pragma once

// The CPU as a Device: host memory, vector loops over a fixed pool of threads.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/quantization.h"

namespace deltaserve::cpu {

struct CpuOptions {
  int num_threads = 1;          // of this rank, the caller's included
  std::vector<int> cores = {};  // of each thread, or empty: see ThreadPool
  std::string isa = "auto";     // or a name of CpuIsaName()
  Quantization quantization = Quantization::kNone;
};

// A device whose calls are done when they return. Owns its threads; bits of results do not depend
// on how many there are. INVALID_ARGUMENT for num_threads < 1 or an
// instruction set that is none of this processor, FAILED_PRECONDITION for a processor that has none
// of those that the kernels are compiled for.
absl::StatusOr<std::unique_ptr<Device>> CreateCpuDevice(const CpuOptions& options);

}  // namespace deltaserve::cpu
