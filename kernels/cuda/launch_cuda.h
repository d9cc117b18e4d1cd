#pragma once

// launch.h's Queue and Launch for nvcc. Include launch.h instead.

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace deltaserve::cuda {

// A stream and the first error of what was put on it. One engine thread; owned by the Device.
class Queue {
 public:
  explicit Queue(cudaStream_t stream, int num_processors)
      : stream_(stream), num_processors_(num_processors) {}

  cudaStream_t stream() const { return stream_; }
  // Streaming multiprocessors, for grids that fill them.
  int num_processors() const { return num_processors_; }

  // `what`: the call that gave `error`. Only the first one is kept.
  void Note(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    status_.Update(absl::InternalError(absl::StrCat("CUDA: ", what, ": ", cudaGetErrorName(error),
                                                    ": ", cudaGetErrorString(error))));
  }
  const absl::Status& status() const { return status_; }

 private:
  cudaStream_t stream_;
  int num_processors_;
  absl::Status status_;
};

// Runs kKernel on grid x block threads with `shared_bytes` of dynamic shared memory. An error shows
// when the device is synchronised. Does nothing for an empty grid.
template <auto kKernel, typename... Args>
void Launch(Queue& queue, dim3 grid, dim3 block, size_t shared_bytes, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  constexpr size_t kFree = size_t{48} << 10;  // more has to be asked for
  static size_t allowed = kFree;
  if (shared_bytes > allowed) {
    queue.Note(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "cudaFuncSetAttribute");
    allowed = shared_bytes;
  }
  kKernel<<<grid, block, shared_bytes, queue.stream()>>>(args...);
  queue.Note(cudaPeekAtLastError(), "launch of a kernel");
}

}  // namespace deltaserve::cuda
