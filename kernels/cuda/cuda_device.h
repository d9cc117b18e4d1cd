#pragma once

// A CUDA GPU as a Device. Which file implements this is CMake's choice: a build without CUDA has
// no_cuda.cc in its place, so callers hold no #ifdef.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace deltaserve::cuda {

// The GPU of CUDA ordinal `ordinal`, for the calling thread alone: CUDA's current device belongs to
// a thread, and calls go to that. Checked; what Allocate() gave may be freed by any. UNIMPLEMENTED,
// with the remedy, in a build without CUDA.
absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(int ordinal);

// The cudaStream_t of the queue of a device that CreateCudaDevice made, for a communicator that
// enqueues on it.
void* StreamOf(Device& device);

}  // namespace deltaserve::cuda
