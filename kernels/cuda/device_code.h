#pragma once

// What a kernel may use. Every .cu file here is compiled twice: by nvcc, and by the host's compiler
// over shim/ (DELTASERVE_CUDA_SHIM), where a block's threads are fibers, so that tests find wrong
// indices and missing barriers without a GPU. So kernels keep to what both have:
//   - __global__, __device__, __shared__ (static arrays), SharedMemory<T>() (the dynamic ones),
//     threadIdx, blockIdx, blockDim, gridDim, __syncthreads(), float2/float4/int2/int4/uint2/uint4
//   - the functions below; of the maths library expf, logf, log1pf, rsqrtf, sinf, cosf, fmaf,
//     fminf, fmaxf
//   - blocks whose number of threads is a multiple of 32; warp functions called by the whole warp
// Tensor pointers come from TensorView on the host; kernels take raw pointers and sizes by value.

#ifdef DELTASERVE_CUDA_SHIM
#include "kernels/cuda/shim/device_code_shim.h"  // IWYU pragma: export
#else
#include "kernels/cuda/device_code_cuda.h"  // IWYU pragma: export
#endif

namespace deltaserve::cuda {

inline constexpr int kWarp = 32;

__device__ inline int LaneId() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int WarpId() { return static_cast<int>(threadIdx.x) / kWarp; }

__device__ inline int Min(int a, int b) { return a < b ? a : b; }

// All lanes get the result; one order of additions.
__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += ShuffleXor(value, mask);
  return value;
}

__device__ inline float WarpMax(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, ShuffleXor(value, mask));
  return value;
}

// All threads of a one-dimensional block get the result. `shared`: 32 floats of shared memory that
// nothing else uses until the next __syncthreads().
__device__ inline float BlockSum(float value, float* shared) {
  value = WarpSum(value);
  __syncthreads();  // shared may have been read by an earlier call
  if (LaneId() == 0) shared[WarpId()] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  return WarpSum(LaneId() < warps ? shared[LaneId()] : 0.0F);
}

__device__ inline float BlockMax(float value, float* shared) {
  value = WarpMax(value);
  __syncthreads();
  if (LaneId() == 0) shared[WarpId()] = value;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  return WarpMax(LaneId() < warps ? shared[LaneId()] : -INFINITY);
}

__device__ inline float Sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }
__device__ inline float Silu(float x) { return x * Sigmoid(x); }

}  // namespace deltaserve::cuda
