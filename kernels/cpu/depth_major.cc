#include "kernels/cpu/depth_major.h"

#include <algorithm>
#include <array>
#include <utility>

namespace deltaserve::cpu {
namespace {

constexpr int kTileRows = kRegisters == 32 ? 12 : 6;

// What follows the sum over k < depth, on the square of a tile's own rows.
enum class Corner { kNone, kLowerTriangle, kSolve };

struct TileArgs {
  DepthMajor a;
  ConstStrip b;
  int64_t depth;
  float factor;  // of c where the sum starts; 0 starts at zero
  Strip c;
};

// c[r] = factor c[r] + sum of a(r, k) b[k] over k < depth, then the corner.
template <int kRows, Corner kCorner>
void Tile(const TileArgs& tile) {
  F32 sum[kRows][2];
  const bool from_zero = tile.factor == 0.0f;
  const F32 factor = Set1(tile.factor);
  const Strip out = tile.c;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const float* c = out.Row(r);
    sum[r][0] = from_zero ? Zero() : Mul(factor, Load(c));
    sum[r][1] = from_zero ? Zero() : Mul(factor, Load(c + kLanes));
  }
  const float* a = tile.a.data;
  const float* b = tile.b.data;
  for (int64_t k = 0; k < tile.depth; ++k, a += tile.a.stride, b += tile.b.stride) {
    const F32 low = Load(b);
    const F32 high = Load(b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 x = Set1(a[r]);
      sum[r][0] = Fma(x, low, sum[r][0]);
      sum[r][1] = Fma(x, high, sum[r][1]);
    }
  }
  if (kCorner != Corner::kNone) {
#pragma GCC unroll 16
    for (int k = 0; k < kRows; ++k, a += tile.a.stride, b += tile.b.stride) {
      const F32 low = kCorner == Corner::kSolve ? sum[k][0] : Load(b);
      const F32 high = kCorner == Corner::kSolve ? sum[k][1] : Load(b + kLanes);
#pragma GCC unroll 16
      for (int r = kCorner == Corner::kSolve ? k + 1 : k; r < kRows; ++r) {
        const F32 x = Set1(a[r]);
        sum[r][0] = Fma(x, low, sum[r][0]);
        sum[r][1] = Fma(x, high, sum[r][1]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    Store(out.Row(r), sum[r][0]);
    Store(out.Row(r) + kLanes, sum[r][1]);
  }
}

using TileFunction = void (*)(const TileArgs&);

template <Corner kCorner, int... kMinusOne>
constexpr std::array<TileFunction, sizeof...(kMinusOne)> TileFunctions(
    std::integer_sequence<int, kMinusOne...>) {
  return {Tile<kMinusOne + 1, kCorner>...};
}

// f(first row, rows, function of that many rows) for tiles of nearly equal height.
template <Corner kCorner, typename F>
void ForEachTile(int64_t num_rows, F&& f) {
  static constexpr auto kFunctions =
      TileFunctions<kCorner>(std::make_integer_sequence<int, kTileRows>());
  const int64_t num_tiles = (num_rows + kTileRows - 1) / kTileRows;
  for (int64_t t = 0; t < num_tiles; ++t) {
    const int64_t begin = t * num_rows / num_tiles;
    const int64_t height = (t + 1) * num_rows / num_tiles - begin;
    f(begin, kFunctions[static_cast<size_t>(height - 1)]);
  }
}

}  // namespace

void Multiply(DepthMajor a, int64_t num_rows, ConstStrip b, int64_t depth, Strip c) {
  MultiplyAdd(a, num_rows, b, depth, 0.0f, c);
}

void MultiplyAdd(
    DepthMajor a, int64_t num_rows, ConstStrip b, int64_t depth, float factor, Strip c) {
  ForEachTile<Corner::kNone>(num_rows, [&](int64_t r, TileFunction function) {
    function({a.From(r, 0), b, depth, factor, {c.Row(r), c.stride}});
  });
}

void AddLowerTriangle(DepthMajor a, int64_t num_rows, ConstStrip b, Strip c) {
  ForEachTile<Corner::kLowerTriangle>(num_rows, [&](int64_t r, TileFunction function) {
    function({a.From(r, 0), b, r, 1.0f, {c.Row(r), c.stride}});
  });
}

void SolveLowerTriangle(DepthMajor a, int64_t num_rows, Strip x) {
  ForEachTile<Corner::kSolve>(num_rows, [&](int64_t r, TileFunction function) {
    function({a.From(r, 0), {x.data, x.stride}, r, 1.0f, {x.Row(r), x.stride}});
  });
}

void Transpose(const float* from,
               int64_t from_stride,
               int64_t num_rows,
               int64_t num_columns,
               float* to,
               int64_t to_stride) {
  const int64_t padded = (num_rows + kStrip - 1) / kStrip * kStrip;
  for (int64_t r = 0; r < padded; r += kLanes) {
    for (int64_t c = 0; c < num_columns; c += kLanes) {
      F32 square[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        square[i] = r + i < num_rows ? LoadFirst(from + (r + i) * from_stride + c, num_columns - c)
                                     : Zero();
      }
      Deinterleave(square);
      const int64_t columns = std::min(kLanes, num_columns - c);
      for (int64_t i = 0; i < columns; ++i) Store(to + (c + i) * to_stride + r, square[i]);
    }
  }
}

}  // namespace deltaserve::cpu
