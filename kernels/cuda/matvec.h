#pragma once

// Products of a few rows with a matrix of weights, each weight read once: a decode step's linear
// layers.

#include "kernels/tensor/tensor_view.h"

namespace deltaserve::cuda {

class Queue;

inline constexpr int64_t kMaxMatvecRows = 8;

// Whether Matvec takes them: 1 to 8 rows, rows of a multiple of 8 elements aligned to 16 bytes.
bool MatvecTakes(const TensorView& x, const TensorView& w);

// out = x . w^T, products and sums in f32; a row's bits do not depend on the other rows. Only
// enqueues.
//   x: bf16 [rows, in], w: bf16 [out, in], out: bf16 or f32 [rows, out]
void Matvec(const TensorView& x, const TensorView& w, const TensorView& out, Queue& queue);

}  // namespace deltaserve::cuda
