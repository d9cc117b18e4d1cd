#pragma once

// Linear layers: out = x . W^T with bf16 weights, row-major in memory of the device. See
// kernels/ops.h.

#include <memory>

#include "kernels/cuda/matrix_products.h"
#include "kernels/ops.h"

namespace deltaserve::cuda {

// See Ops::PackLinear and Ops::PackTable; f32 weights are rounded, those in the device's memory
// taken over. Done when they return; errors are those of `device`.
absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(
    Device& device, Buffer weight, DType dtype, int64_t out_features, int64_t in_features);
absl::StatusOr<std::unique_ptr<LinearWeight>> PackTable(Device& device, TensorView table);

// See LinearArgs; x is bf16, out bf16 or f32. Few rows are Matvec's.
void Linear(const LinearArgs& args, MatrixProducts& products, Queue& queue);

}  // namespace deltaserve::cuda
