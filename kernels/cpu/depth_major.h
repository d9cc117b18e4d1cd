#pragma once

// Small f32 products inside the delta rule, on matrices that lie in scratch with their left operand
// depth-major: what is multiplied in one step of k lies side by side. The right operand and the
// result are strips, kStrip columns wide. Every output is one chain of fused multiply-adds over k
// in ascending order, whatever the number of rows.

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {

inline constexpr int64_t kStrip = 2 * kLanes;

// a(r, k) = data[k * stride + r]
struct DepthMajor {
  const float* data = nullptr;
  int64_t stride = 0;

  DepthMajor From(int64_t row, int64_t k) const { return {data + k * stride + row, stride}; }
};

// kStrip columns of the rows of a matrix.
template <typename T>
struct StripOf {
  T* data = nullptr;
  int64_t stride = 0;

  T* Row(int64_t r) const { return data + r * stride; }
};
using Strip = StripOf<float>;
using ConstStrip = StripOf<const float>;

// c[r] = sum over k < depth of a(r, k) b[k], for r < num_rows. c is neither a nor b.
void Multiply(DepthMajor a, int64_t num_rows, ConstStrip b, int64_t depth, Strip c);

// c[r] = factor c[r] + sum over k < depth of a(r, k) b[k]; c is not read where factor is 0.
void MultiplyAdd(
    DepthMajor a, int64_t num_rows, ConstStrip b, int64_t depth, float factor, Strip c);

// c[r] += sum over k <= r of a(r, k) b[k]
void AddLowerTriangle(DepthMajor a, int64_t num_rows, ConstStrip b, Strip c);

// x[r] += sum over k < r of a(r, k) x[k], rows in order: forward substitution.
void SolveLowerTriangle(DepthMajor a, int64_t num_rows, Strip x);

// to[c * to_stride + r] = from[r * from_stride + c] for c < num_columns, r < num_rows, and zeros
// for rows from there to the next multiple of kStrip, which to_stride is not below.
void Transpose(const float* from,
               int64_t from_stride,
               int64_t num_rows,
               int64_t num_columns,
               float* to,
               int64_t to_stride);

}  // namespace deltaserve::cpu
