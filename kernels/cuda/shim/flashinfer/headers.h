#pragma once

// FlashInfer's headers for the host's compiler over the shim. The compiler includes this before all
// else in a .cu file that calls FlashInfer's kernels, so that what the file includes itself is
// there already. A kernel is launched by launch.h's Launch. Its wrappers of PTX (cp_async.cuh,
// math.cuh, mma.cuh) are left out by their include guards, for those of warp_functions.h.

#include "kernels/cuda/shim/flashinfer/warp_functions.h"

// NOLINTBEGIN(bugprone-reserved-identifier)
#define FLASHINFER_CP_ASYNC_CUH_
#define FLASHINFER_MATH_CUH_
#define FLASHINFER_MMA_CUH_
#define FLASHINFER_STMATRIX_M8N8X4_ENABLED  // as mma.cuh does for sm_90

#define __CUDA_ARCH__ 900
#undef __grid_constant__
#define __grid_constant__
#pragma push_macro("__shared__")
#undef __shared__
#define __shared__  // of `extern __shared__ uint8_t smem[]`, which is warp_functions.cc's
#define threadIdx (::deltaserve::cuda::shim::ThreadIndex())

// The first two are copies with the word `template` where C++ asks for it, made by CMakeLists.txt;
// in this order, as the rest includes them.
// clang-format off
#include <flashinfer/vec_dtypes.cuh>
#include <flashinfer/attention/prefill.cuh>
// clang-format on
#include <flashinfer/attention/cascade.cuh>
#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/variants.cuh>

#undef threadIdx
#pragma pop_macro("__shared__")
#undef __CUDA_ARCH__
// NOLINTEND(bugprone-reserved-identifier)

#include "kernels/cuda/launch.h"
