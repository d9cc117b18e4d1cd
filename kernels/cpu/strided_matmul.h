#pragma once

// Small f32 products of matrices that lie in scratch or state: the loops inside the delta rule and
// attention. Every output is one chain of fused multiply-adds over k in ascending order, whatever
// the number of rows or columns.

#include <cstdint>

namespace deltaserve::cpu {

// a(i, k) = a[i * row_stride + k * depth_stride]
struct StridedRows {
  const float* a = nullptr;
  int64_t row_stride = 0;
  int64_t depth_stride = 1;

  StridedRows From(int64_t row, int64_t k) const {
    return {a + row * row_stride + k * depth_stride, row_stride, depth_stride};
  }
};

// Where the chain of an output starts.
enum class Start { kZero, kOutput };

// c[i][n] = start + sum over k < depth of a(i, k) * b[k][n], for i < num_rows, n < num_columns.
// b: f32 [depth, b_stride], c: f32 [num_rows, c_stride]; c overlaps neither.
void MultiplyStrided(StridedRows a,
                     int64_t num_rows,
                     const float* b,
                     int64_t b_stride,
                     int64_t depth,
                     int64_t num_columns,
                     Start start,
                     float* c,
                     int64_t c_stride);

// Row i continues from c[i] with its own depth only: c[i][n] += sum over k < depth(i) of
// a(i, k) * b[k][n], depth(i) = i + first_depth. b may be c where first_depth = 0: rows are
// finished in order, which is forward substitution.
void MultiplyLowerTriangle(StridedRows a,
                           int64_t num_rows,
                           int64_t first_depth,
                           const float* b,
                           int64_t b_stride,
                           int64_t num_columns,
                           float* c,
                           int64_t c_stride);

}  // namespace deltaserve::cpu
