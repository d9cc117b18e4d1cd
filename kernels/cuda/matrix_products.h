#pragma once

// Dense matrix products on one device. cublas_products.cc has cuBLASLt; over the shim it is a plain
// kernel, shim/plain_products.cu.

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"

namespace deltaserve::cuda {

class Queue;

class MatrixProducts {
 public:
  virtual ~MatrixProducts() = default;

  // out = x . w^T, added in f32, on the queue given at creation. Any sizes; none may be 0.
  //   x: bf16 [rows, in], w: bf16 [out, in], out: bf16 or f32 [rows, out]
  virtual void Multiply(const TensorView& x, const TensorView& w, const TensorView& out) = 0;
};

// `device` and its `queue` must outlive the result. Takes what memory it needs here.
absl::StatusOr<std::unique_ptr<MatrixProducts>> CreateMatrixProducts(Device& device, Queue& queue);

}  // namespace deltaserve::cuda
