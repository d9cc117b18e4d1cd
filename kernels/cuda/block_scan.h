#pragma once

// A prefix sum over the threads of a block. For .cu files.

#include "kernels/cuda/device_code.h"

namespace deltaserve::cuda {

struct Scan {
  int before;  // sum of the threads before
  int total;   // of the block
};

// `shared`: an int a warp, that nothing else uses until the next __syncthreads().
__device__ inline Scan ScanBlock(int value, int* shared) {
  int sum = value;
#pragma unroll
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const int below = ShuffleUp(sum, delta);
    if (LaneId() >= delta) sum += below;
  }
  if (LaneId() == kWarp - 1) shared[WarpId()] = sum;
  __syncthreads();
  Scan scan = {sum - value, 0};
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
    if (w < WarpId()) scan.before += shared[w];
    scan.total += shared[w];
  }
  return scan;
}

}  // namespace deltaserve::cuda
