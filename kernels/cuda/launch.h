#pragma once

// Queue: the one in-order queue of a device. Launch: a kernel on it.

#include "absl/status/status.h"
#include "kernels/cuda/device_code.h"

#ifdef DELTASERVE_CUDA_SHIM
#include "kernels/cuda/shim/launch_shim.h"  // IWYU pragma: export
#else
#include "kernels/cuda/launch_cuda.h"  // IWYU pragma: export
#endif

namespace deltaserve::cuda {

inline unsigned int Blocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned int>((items + per_block - 1) / per_block);
}

}  // namespace deltaserve::cuda
