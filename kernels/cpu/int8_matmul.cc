#include "kernels/cpu/int8_matmul.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace deltaserve::cpu {
namespace {

constexpr int64_t kTile = kRegisters == 32 ? 12 : 4;  // rows of a register tile, at most
constexpr int64_t kStepDepth = 4;                     // k of one 32-bit lane
constexpr int64_t kStepBytes = kPanel * kStepDepth;   // of weights
constexpr int64_t kBlockSteps = 128;  // steps whose weights stay in the nearest cache
constexpr int64_t kAhead = 4096;      // bytes past what is read that are asked of memory
constexpr float kSmallest = 1e-30F;

int64_t NumSteps(int64_t depth) { return (depth + kStepDepth - 1) / kStepDepth; }
int64_t PanelBytes(int64_t depth) {
  return NumSteps(depth) * kStepBytes + kPanel * static_cast<int64_t>(sizeof(float));
}

// A block of quantised rows in its memory.
struct Block {
  float* scale;   // [num_rows]
  int32_t* bias;  // [num_rows], kByteBias times the sum of the row
  int8_t* rows;   // tiles [steps][height][4]

  Block(float* memory, int64_t num_rows)
      : scale(memory),
        bias(reinterpret_cast<int32_t*>(memory + num_rows)),
        rows(reinterpret_cast<int8_t*>(memory + 2 * num_rows)) {}
};

// Weights that a tile asks of memory while it works: `step` bytes further at each step.
struct Ahead {
  const uint8_t* data;
  int64_t step;
};

// total[r][c] (+)= the products over `steps` steps of one panel.
// x: [steps][kRows][4]; w: [steps][kPanel][4].
template <int kRows, typename Dot>
void Tile(
    const int8_t* x, const uint8_t* w, int64_t steps, bool first, Ahead ahead, int32_t* total) {
  I32 sum[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    sum[r][0] = first ? ZeroI32() : LoadI32(total + r * kPanel);
    sum[r][1] = first ? ZeroI32() : LoadI32(total + r * kPanel + kLanes);
  }
  for (int64_t k = 0; k < steps; ++k, x += kStepDepth * kRows, w += kStepBytes) {
    const auto low = Dot::Weights(LoadI32(w));
    const auto high = Dot::Weights(LoadI32(w + kStepBytes / 2));
    __builtin_prefetch(ahead.data);
    __builtin_prefetch(ahead.data + ahead.step / 2);
    ahead.data += ahead.step;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      int32_t bytes;
      std::memcpy(&bytes, x + kStepDepth * r, sizeof(bytes));
      const auto xr = Dot::Row(bytes);
      sum[r][0] = Dot::Step(sum[r][0], low, xr);
      sum[r][1] = Dot::Step(sum[r][1], high, xr);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    StoreI32(total + r * kPanel, sum[r][0]);
    StoreI32(total + r * kPanel + kLanes, sum[r][1]);
  }
}

using TileFunction = void (*)(const int8_t*, const uint8_t*, int64_t, bool, Ahead, int32_t*);
using TileFunctions = std::array<TileFunction, kTile>;

template <typename Dot, int... kMinusOne>
constexpr TileFunctions MakeTiles(std::integer_sequence<int, kMinusOne...>) {
  return {Tile<kMinusOne + 1, Dot>...};
}

// By the number of rows less one.
template <typename Dot>
constexpr TileFunctions kTiles =
    MakeTiles<Dot>(std::make_integer_sequence<int, static_cast<int>(kTile)>());

// total [panels][num_rows][kPanel] = the products of panels [panel, panel + num_panels).
void AllTiles(const TileFunctions& tiles,
              const int8_t* rows,
              int64_t num_rows,
              const uint8_t* panels,
              int64_t panel_bytes,
              int64_t steps,
              int64_t num_panels,
              int32_t* total) {
  const int64_t num_tiles = NumInt8Tiles(num_rows);
  if (num_tiles == 1) {
    const TileFunction tile = tiles[static_cast<size_t>(num_rows - 1)];
    for (int64_t p = 0; p < num_panels; ++p) {
      const uint8_t* from = panels + p * panel_bytes;
      tile(rows, from, steps, true, {from + kAhead, kStepBytes}, total + p * num_rows * kPanel);
    }
    return;
  }
  // All panels of a block of k one after another: rows come from a near cache. Each tile asks for
  // its share of the next block of weights.
  for (int64_t k = 0; k < steps; k += kBlockSteps) {
    const int64_t count = std::min(kBlockSteps, steps - k);
    for (int64_t p = 0; p < num_panels; ++p) {
      const uint8_t* from = panels + p * panel_bytes + k * kStepBytes;
      const uint8_t* next =
          p + 1 < num_panels ? from + panel_bytes : panels + (k + count) * kStepBytes;
      for (int64_t t = 0; t < num_tiles; ++t) {
        const auto [begin, height] = TileOf(t, num_rows, num_tiles);
        tiles[static_cast<size_t>(height - 1)](
            rows + (begin * steps + k * height) * kStepDepth, from, count, k == 0,
            {next + count * kStepBytes * t / num_tiles, kStepBytes / num_tiles},
            total + (p * num_rows + begin) * kPanel);
      }
    }
  }
}

// A row's or an output's factor to whole numbers, and from them back.
struct Factors {
  float to;
  float from;
};

Factors FactorsOf(const float* x, int64_t n) {
  F32 most = Zero();
  F32 zero = Zero();  // NaN where a value is no number
  for (int64_t i = 0; i < n; i += kLanes) {
    const F32 v = LoadFirst(x + i, n - i);
    most = Max(most, Max(v, Negate(v)));
    zero = Fma(v, Zero(), zero);
  }
  const float all = ReduceMax(most) + ReduceSum(zero);
  if (all < kSmallest) return {0.0F, 0.0F};
  return {127.0F / all, all / 127.0F};
}

// The first n values of x, at most kLanes, as s8 with zeros after them; adds them to `sum`, which
// is exact as all of a row's are below 2^24.
inline void QuantizeLanes(const float* x, int64_t n, F32 factor, int8_t* to, F32& sum) {
  const F32 rounded = Round(Mul(LoadFirst(x, n), factor));
  StoreBytes(to, rounded);
  sum = Add(sum, rounded);
}

void PackPanel(const void* source,
               DType dtype,
               int64_t outputs,
               int64_t depth,
               float* wide,
               int8_t* narrow,
               uint8_t* to) {
  auto* scales = reinterpret_cast<float*>(to + NumSteps(depth) * kStepBytes);
  for (int64_t c = 0; c < kPanel; ++c) {
    const float* row = static_cast<const float*>(source) + c * depth;
    if (c >= outputs) {
      row = nullptr;
    } else if (dtype == DType::kBF16) {
      const auto* from = static_cast<const BFloat16*>(source) + c * depth;
      for (int64_t k = 0; k < depth; ++k) wide[k] = ToFloat(from[k]);
      row = wide;
    }
    const Factors factors = row == nullptr ? Factors{0.0F, 0.0F} : FactorsOf(row, depth);
    scales[c] = factors.from;
    F32 sum = Zero();
    for (int64_t k = 0; row != nullptr && k < depth; k += kLanes) {
      QuantizeLanes(row + k, depth - k, Set1(factors.to), narrow + k, sum);
    }
    for (int64_t k = 0; k < NumSteps(depth) * kStepDepth; ++k) {
      const int weight = row == nullptr ? 0 : narrow[k];
      to[k / kStepDepth * kStepBytes + c * kStepDepth + k % kStepDepth] =
          static_cast<uint8_t>(weight + kByteBias);
    }
  }
}

}  // namespace

size_t Int8Bytes(int64_t out_features, int64_t in_features) {
  const int64_t panels = (out_features + kPanel - 1) / kPanel;
  return static_cast<size_t>(panels * PanelBytes(in_features));
}

void PackInt8(
    const void* source, DType dtype, int64_t out_features, int64_t in_features, void* packed) {
  DS_CHECK(dtype == DType::kBF16 || dtype == DType::kF32) << DTypeName(dtype);
  DS_CHECK_LE(in_features, kMaxInt8Depth);
  const int64_t row_bytes = in_features * static_cast<int64_t>(DTypeSize(dtype));
  std::vector<float> wide(static_cast<size_t>(in_features));
  std::vector<int8_t> narrow(static_cast<size_t>(in_features + kLanes));
  for (int64_t c = 0; c < out_features; c += kPanel) {
    PackPanel(static_cast<const char*>(source) + c * row_bytes, dtype,
              std::min(kPanel, out_features - c), in_features, wide.data(), narrow.data(),
              static_cast<uint8_t*>(packed) + c / kPanel * PanelBytes(in_features));
  }
}

int64_t Int8BlockFloats(int64_t num_rows, int64_t depth) {
  return num_rows * (2 + NumSteps(depth));
}

int64_t NumInt8Tiles(int64_t num_rows) { return (num_rows + kTile - 1) / kTile; }

void QuantizeRows(const float* x,
                  int64_t stride,
                  const int32_t* index,
                  int64_t num_rows,
                  int64_t depth,
                  int64_t tile_begin,
                  int64_t tile_end,
                  float* block) {
  constexpr int64_t kChunk = 4 * kLanes;  // k of a row at a time: tiles are written front to back
  const Block to(block, num_rows);
  const int64_t num_tiles = NumInt8Tiles(num_rows);
  const int64_t steps = NumSteps(depth);
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const auto [begin, height] = TileOf(t, num_rows, num_tiles);
    const float* row[kTile];
    F32 factor[kTile];
    F32 sum[kTile];
    for (int64_t r = 0; r < height; ++r) {
      row[r] = x + stride * (index == nullptr ? begin + r : index[begin + r]);
      const Factors factors = FactorsOf(row[r], depth);
      to.scale[begin + r] = factors.from;
      factor[r] = Set1(factors.to);
      sum[r] = Zero();
    }
    for (int64_t k = 0; k < depth; k += kChunk) {
      for (int64_t r = 0; r < height; ++r) {
        int8_t bytes[kChunk];
        for (int64_t i = 0; i < kChunk && k + i < depth; i += kLanes) {
          QuantizeLanes(row[r] + k + i, depth - k - i, factor[r], bytes + i, sum[r]);
        }
        int8_t* tile = to.rows + (begin * steps + k / kStepDepth * height + r) * kStepDepth;
        const int64_t count = std::min(kChunk / kStepDepth, steps - k / kStepDepth);
        for (int64_t i = 0; i < count; ++i) {
          std::memcpy(tile + i * height * kStepDepth, bytes + i * kStepDepth, kStepDepth);
        }
      }
    }
    for (int64_t r = 0; r < height; ++r) {
      const float whole = ReduceSum(sum[r]);
      to.bias[begin + r] = std::isnan(whole) ? 0 : kByteBias * static_cast<int32_t>(whole);
    }
  }
}

void MultiplyInt8Panels(const float* block,
                        int64_t num_rows,
                        const PackedMatrix& w,
                        int64_t panel,
                        int64_t num_panels,
                        float* out,
                        int64_t stride) {
  if (num_rows == 0) return;
  alignas(64) int32_t total[kMatmulRows * kGroupColumns];
  const Block from(const_cast<float*>(block), num_rows);
  const int64_t steps = NumSteps(w.in_features);
  const int64_t panel_bytes = PanelBytes(w.in_features);
  const uint8_t* panels = static_cast<const uint8_t*>(w.data) + panel * panel_bytes;
  AllTiles(w.fast_bytes ? kTiles<FastByteDot> : kTiles<ByteDot>, from.rows, num_rows, panels,
           panel_bytes, steps, num_panels, total);
  if (steps == 0) std::fill_n(total, num_panels * num_rows * kPanel, 0);
  for (int64_t p = 0; p < num_panels; ++p) {
    const int64_t columns = std::min(kPanel, w.out_features - (panel + p) * kPanel);
    const auto* scales =
        reinterpret_cast<const float*>(panels + p * panel_bytes + steps * kStepBytes);
    for (int64_t r = 0; r < num_rows; ++r) {
      const int32_t* sums = total + (p * num_rows + r) * kPanel;
      const I32 bias = Set1(from.bias[r]);
      const F32 scale = Set1(from.scale[r]);
      float* to = out + r * stride + p * kPanel;
      for (int64_t c = 0; c < columns; c += kLanes) {
        const F32 dot = ToF32(Sub(LoadI32(sums + c), bias));
        StoreFirst(to + c, Mul(dot, Mul(scale, Load(scales + c))), columns - c);
      }
    }
  }
}

}  // namespace deltaserve::cpu
