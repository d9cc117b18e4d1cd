#pragma once

// CUDA's Ops: each method calls the function of the same name in this folder, or that of a library
// in its place (backends.h).

#include <memory>

#include "kernels/cuda/backends.h"
#include "kernels/cuda/matrix_products.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace deltaserve::cuda {

class Queue;

// `device` and its `queue` must outlive the result. Weights are packed into memory of `device`.
std::unique_ptr<Ops> CreateCudaOps(Device& device,
                                   Queue& queue,
                                   std::unique_ptr<MatrixProducts> products,
                                   const Backends& backends = {});

}  // namespace deltaserve::cuda
