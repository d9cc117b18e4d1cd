#pragma once

// A Device whose ops are the CUDA kernels, compiled for the host over this folder. Linked by tests
// only. A build with nvcc has no_shim.cc in its place.

#include <cstdint>
#include <memory>

#include "kernels/cuda/cuda_options.h"
#include "kernels/device.h"

namespace deltaserve::cuda {

// As strict as a GPU may be: nothing is done before Synchronize(), memory of the device may not be
// touched by the host (AddressSanitizer sees it), starts as NaN and ends where it was asked to.
// `seed` draws the orders of threads and blocks. Null in a build with nvcc, and where this binary
// has no such attention as `options` name. May be used beside others of its kind, by one thread
// each; their kernels take turns. With `moe` of cutlass all but the products themselves is what a
// GPU runs; plain ones check what they are given.
std::unique_ptr<Device> CreateShimDevice(uint64_t seed = 1, const CudaOptions& options = {});

}  // namespace deltaserve::cuda
