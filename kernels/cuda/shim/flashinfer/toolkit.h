#pragma once

// The CUDA toolkit's types as they are for the host's compiler, beside device_code.h, whose words
// for functions and variables (__device__ and others) stay.

#include "kernels/cuda/device_code.h"

#pragma push_macro("__align__")
#pragma push_macro("__device__")
#pragma push_macro("__forceinline__")
#pragma push_macro("__global__")
#pragma push_macro("__host__")
#pragma push_macro("__launch_bounds__")
#pragma push_macro("__shared__")
#pragma push_macro("__syncthreads")
#undef __align__
#undef __device__
#undef __forceinline__
#undef __global__
#undef __host__
#undef __launch_bounds__
#undef __shared__
#undef __syncthreads

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cuda/cmath>
#include <cuda/std/limits>

#pragma pop_macro("__align__")
#pragma pop_macro("__device__")
#pragma pop_macro("__forceinline__")
#pragma pop_macro("__global__")
#pragma pop_macro("__host__")
#pragma pop_macro("__launch_bounds__")
#pragma pop_macro("__shared__")
#pragma pop_macro("__syncthreads")
