#pragma once

// launch.h's Launch for nvcc. Include launch.h instead.

#include <cuda_runtime.h>

#include "kernels/cuda/queue_cuda.h"

namespace deltaserve::cuda {

// Runs kKernel on grid x block threads with `shared_bytes` of dynamic shared memory. An error shows
// when the device is synchronised. Does nothing for an empty grid. One device a process: what a
// kernel may have of shared memory is asked for once.
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
  // Taken, not only looked at, or every later launch would note it too. It may be that of an
  // earlier call of this thread, of a library's or one whose result is not checked.
  queue.Note(cudaGetLastError(), "launch of a kernel");
}

}  // namespace deltaserve::cuda
