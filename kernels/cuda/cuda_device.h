#pragma once

// A CUDA GPU as a Device. Which file implements this is CMake's choice: a build without CUDA has
// no_cuda.cc in its place, so callers hold no #ifdef.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_options.h"
#include "kernels/device.h"

namespace deltaserve::cuda {

// The GPU of CUDA ordinal `ordinal`. UNIMPLEMENTED, with the remedy, in a build without CUDA or
// without kernels that `options` name. Its name tells of kernels that are not its own.
absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(int ordinal,
                                                         const CudaOptions& options = {});

// The cudaStream_t of the queue of a device that CreateCudaDevice made, for a communicator that
// enqueues on it.
void* StreamOf(Device& device);

}  // namespace deltaserve::cuda
