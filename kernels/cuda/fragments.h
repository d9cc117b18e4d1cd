#pragma once

// Operands of MmaBf16 out of matrices in shared memory, row-major with a stride in elements. Rows
// start at 16 bytes; strides of an odd multiple of 8 elements keep the eight rows of a matrix in
// different banks. The whole warp calls each. For .cu files.

#include "kernels/cuda/device_code.h"

namespace deltaserve::cuda {

// A = x[row .. row + 16][column .. column + 16].
__device__ inline void LoadLeft(uint32_t (&a)[4], const bf16* x, int stride, int row, int column) {
  const int lane = LaneId();
  LoadMatrices(a, x + (row + lane % 16) * stride + column + lane / 16 * 8);
}

// A = the transpose of x[row .. row + 16][column .. column + 16].
__device__ inline void LoadLeftTransposed(
    uint32_t (&a)[4], const bf16* x, int stride, int row, int column) {
  const int lane = LaneId();
  const int matrix = lane / 8;
  LoadMatricesTransposed(a,
                         x + (row + lane % 8 + matrix / 2 * 8) * stride + column + matrix % 2 * 8);
}

// Two neighbours: b[n] = x[row .. row + 16][column + 8 n .. column + 8 n + 8].
__device__ inline void LoadRight(
    uint32_t (&b)[2][2], const bf16* x, int stride, int row, int column) {
  const int lane = LaneId();
  uint32_t r[4];
  LoadMatricesTransposed(r, x + (row + lane % 16) * stride + column + lane / 16 * 8);
  b[0][0] = r[0];
  b[0][1] = r[1];
  b[1][0] = r[2];
  b[1][1] = r[3];
}

// Two neighbours: b[n] = the transpose of x[row + 8 n .. row + 8 n + 8][column .. column + 16].
__device__ inline void LoadRightTransposed(
    uint32_t (&b)[2][2], const bf16* x, int stride, int row, int column) {
  const int lane = LaneId();
  const int matrix = lane / 8;
  uint32_t r[4];
  LoadMatrices(r, x + (row + lane % 8 + matrix / 2 * 8) * stride + column + matrix % 2 * 8);
  b[0][0] = r[0];
  b[0][1] = r[1];
  b[1][0] = r[2];
  b[1][1] = r[3];
}

}  // namespace deltaserve::cuda
