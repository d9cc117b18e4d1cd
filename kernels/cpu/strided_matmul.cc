#include "kernels/cpu/strided_matmul.h"

#include <algorithm>

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kTileRows = 6;

struct Operands {
  StridedRows a;
  const float* b;
  int64_t b_stride;
  int64_t depth;
  int64_t num_columns;
  Start start;
  float* c;
  int64_t c_stride;
};

// kRows rows by kVectors * kLanes columns from column n; with kTail, columns past num_columns are
// left alone.
template <int kRows, int kVectors, bool kTail>
inline void Tile(const Operands& o, int64_t n) {
  const auto load = [&](const float* p, int v) {
    return kTail ? LoadFirst(p + n + v * kLanes, o.num_columns - n - v * kLanes)
                 : Load(p + n + v * kLanes);
  };
  F32 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = o.start == Start::kZero ? Zero() : load(o.c + r * o.c_stride, v);
    }
  }
  const float* b = o.b;
  const float* a = o.a.a;
  for (int64_t k = 0; k < o.depth; ++k, b += o.b_stride, a += o.a.depth_stride) {
    F32 row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) row[v] = load(b, v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32 x = Set1(a[r * o.a.row_stride]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Fma(x, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* to = o.c + r * o.c_stride + n + v * kLanes;
      if (kTail) {
        const int64_t left = o.num_columns - n - v * kLanes;
        if (left > 0) StoreFirst(to, sum[r][v], left);
      } else {
        Store(to, sum[r][v]);
      }
    }
  }
}

template <int kRows>
void Columns(const Operands& o) {
  constexpr int kVectors = kRows == 1 ? 8 : kRows <= 3 ? 4 : 2;
  int64_t n = 0;
  for (; n + kVectors * kLanes <= o.num_columns; n += kVectors * kLanes) {
    Tile<kRows, kVectors, false>(o, n);
  }
  for (; n + kLanes <= o.num_columns; n += kLanes) Tile<kRows, 1, false>(o, n);
  if (n < o.num_columns) Tile<kRows, 1, true>(o, n);
}

void Rows(const Operands& o, int64_t num_rows) {
  using Function = void (*)(const Operands&);
  static constexpr Function kFunctions[kTileRows] = {Columns<1>, Columns<2>, Columns<3>,
                                                     Columns<4>, Columns<5>, Columns<6>};
  kFunctions[num_rows - 1](o);
}

}  // namespace

void MultiplyStrided(StridedRows a,
                     int64_t num_rows,
                     const float* b,
                     int64_t b_stride,
                     int64_t depth,
                     int64_t num_columns,
                     Start start,
                     float* c,
                     int64_t c_stride) {
  for (int64_t i = 0; i < num_rows; i += kTileRows) {
    Rows({a.From(i, 0), b, b_stride, depth, num_columns, start, c + i * c_stride, c_stride},
         std::min(kTileRows, num_rows - i));
  }
}

void MultiplyLowerTriangle(StridedRows a,
                           int64_t num_rows,
                           int64_t first_depth,
                           const float* b,
                           int64_t b_stride,
                           int64_t num_columns,
                           float* c,
                           int64_t c_stride) {
  for (int64_t i = 0; i < num_rows; i += kTileRows) {
    const int64_t end = std::min(num_rows, i + kTileRows);
    const int64_t shared = i + first_depth;
    Rows({a.From(i, 0), b, b_stride, shared, num_columns, Start::kOutput, c + i * c_stride,
          c_stride},
         end - i);
    for (int64_t j = i + 1; j < end; ++j) {
      Rows({a.From(j, shared), b + shared * b_stride, b_stride, j - i, num_columns, Start::kOutput,
            c + j * c_stride, c_stride},
           1);
    }
  }
}

}  // namespace deltaserve::cpu
