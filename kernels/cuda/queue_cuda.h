#pragma once

// launch.h's Queue on a GPU, for files without kernels too, which the host's compiler compiles.

#include <cuda_runtime.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace deltaserve::cuda {

// Whether a kernel that has faulted leaves `error` to every call after it.
inline bool IsFault(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

// INTERNAL naming `what`, the call that gave `error`.
inline absl::Status ToStatus(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("CUDA: ", what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error),
                   IsFault(error) ? "; the fault is of a kernel enqueued before that call: "
                                    "CUDA_LAUNCH_BLOCKING=1 shows which"
                                  : ""));
}

// A stream and the first error of what was put on it. One engine thread; owned by the Device.
class Queue {
 public:
  explicit Queue(cudaStream_t stream, int num_multiprocessors)
      : stream_(stream), num_multiprocessors_(num_multiprocessors) {}

  cudaStream_t stream() const { return stream_; }
  // Streaming multiprocessors, for grids that fill them.
  int num_multiprocessors() const { return num_multiprocessors_; }

  // Only the first error is kept.
  void Note(cudaError_t error, const char* what) { Note(ToStatus(error, what)); }
  void Note(const absl::Status& status) { status_.Update(status); }
  absl::Status TakeStatus() { return std::exchange(status_, absl::OkStatus()); }

 private:
  cudaStream_t stream_;
  int num_multiprocessors_;
  absl::Status status_;
};

}  // namespace deltaserve::cuda
