#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matvec.h"
#include "kernels/cuda/vectors.h"

namespace deltaserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kColumns = 4;  // outputs of a warp, whose weights are under way at once

struct Shape {
  const bf16* x;
  const bf16* w;
  int64_t rows;
  int64_t in;
  int64_t out;
  int split;  // warps that share the columns of a group, each with a part of `in`; divides kWarps
};

__device__ Eight ToEight(uint4 bits) {
  const float2 a = UnpackBf16(bits.x);
  const float2 b = UnpackBf16(bits.y);
  const float2 c = UnpackBf16(bits.z);
  const float2 d = UnpackBf16(bits.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}

// Adds this lane's share of kColumns columns from `column`, eights [begin, end) of every row.
template <int kRows>
__device__ void AddProducts(
    const Shape& s, int64_t column, int64_t begin, int64_t end, float (&sum)[kRows][kColumns]) {
  const bf16* w[kColumns];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {  // beyond the last column: the last one, and not stored
    w[c] = s.w + (column + c < s.out ? column + c : s.out - 1) * s.in;
  }
  for (int64_t i = begin + LaneId(); i < end; i += kWarp) {
    uint4 bits[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) bits[c] = LoadStreaming(w[c] + 8 * i);
    Eight weights[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) weights[c] = ToEight(bits[c]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Eight x = LoadEight(s.x + (r < s.rows ? r : s.rows - 1) * s.in + 8 * i);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
#pragma unroll
        for (int k = 0; k < 8; ++k) sum[r][c] = fmaf(x.x[k], weights[c].x[k], sum[r][c]);
      }
    }
  }
}

// A block has kWarps / split groups of kColumns columns. A warp's lanes take eights of `in` in
// turn.
template <int kRows, typename Out>
__global__ void __launch_bounds__(kThreads) MatvecGroups(Shape s, Out* out) {
  __shared__ float part[kWarps][kMaxMatvecRows][kColumns];
  const int64_t group = int64_t{blockIdx.x} * (kWarps / s.split) + WarpId() / s.split;
  const int64_t column = group * kColumns;
  const int64_t eights = s.in / 8;
  const int64_t share = (eights + s.split - 1) / s.split;
  const int64_t begin = share * (WarpId() % s.split);
  float sum[kRows][kColumns] = {};
  if (column < s.out) {
    AddProducts<kRows>(s, column, begin, begin + share < eights ? begin + share : eights, sum);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      sum[r][c] = WarpSum(sum[r][c]);
      if (LaneId() == 0) part[WarpId()][r][c] = sum[r][c];
    }
  }
  __syncthreads();
  const int r = LaneId() / kColumns;
  const int c = LaneId() % kColumns;
  if (WarpId() % s.split != 0 || r >= s.rows || column + c >= s.out) return;
  float all = 0.0F;
  for (int i = 0; i < s.split; ++i) all += part[WarpId() + i][r][c];
  out[r * s.out + column + c] = FromFloat<Out>(all);
}

// So many warps a group that the loads under way fill the memory's pipes, as long as a warp's lanes
// all have work.
int SplitOf(int64_t in, int64_t out, int num_multiprocessors) {
  constexpr int64_t kWarpsOfMultiprocessor = 16;
  const int64_t groups = (out + kColumns - 1) / kColumns;
  int split = 1;
  while (split < kWarps && 2 * split * groups <= kWarpsOfMultiprocessor * num_multiprocessors &&
         in >= int64_t{2} * split * 8 * kWarp) {
    split *= 2;
  }
  return split;
}

template <typename Out>
void LaunchRows(const Shape& s, Out* out, Queue& queue) {
  const int64_t groups = (s.out + kColumns - 1) / kColumns;
  const dim3 grid(Blocks(groups, kWarps / s.split));
  if (s.rows == 1) {
    Launch<&MatvecGroups<1, Out>>(queue, grid, dim3(kThreads), 0, s, out);
  } else if (s.rows == 2) {
    Launch<&MatvecGroups<2, Out>>(queue, grid, dim3(kThreads), 0, s, out);
  } else if (s.rows <= 4) {
    Launch<&MatvecGroups<4, Out>>(queue, grid, dim3(kThreads), 0, s, out);
  } else {
    Launch<&MatvecGroups<8, Out>>(queue, grid, dim3(kThreads), 0, s, out);
  }
}

}  // namespace

bool MatvecTakes(const TensorView& x, const TensorView& w) {
  return x.dim(0) >= 1 && x.dim(0) <= kMaxMatvecRows && ByEights(x.dim(1), {&x, &w});
}

void Matvec(const TensorView& x, const TensorView& w, const TensorView& out, Queue& queue) {
  DS_CHECK(MatvecTakes(x, w) && x.dim(1) == w.dim(1) && out.dim(0) == x.dim(0) &&
           out.dim(1) == w.dim(0))
      << x.ToString() << " with " << w.ToString() << " to " << out.ToString();
  const Shape shape = {.x = Bf16Of(x),
                       .w = Bf16Of(w),
                       .rows = x.dim(0),
                       .in = x.dim(1),
                       .out = w.dim(0),
                       .split = SplitOf(x.dim(1), w.dim(0), queue.num_multiprocessors())};
  if (out.dtype() == DType::kF32) {
    LaunchRows(shape, out.as<float>(), queue);
  } else {
    LaunchRows(shape, Bf16Of(out), queue);
  }
}

}  // namespace deltaserve::cuda
