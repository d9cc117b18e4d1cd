#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

namespace deltaserve::cpu {
namespace {

constexpr int64_t kFewTiles = 3;      // that widen weights as they read them
constexpr int64_t kNearAhead = 2048;  // bytes

// Weights that a tile asks of memory while it works: `step` bytes further for each k.
struct Ahead {
  const char* data;
  int64_t step;
};

// The weights of one k of a panel as two vectors.
inline void LoadWeights(const BFloat16* w, F32& low, F32& high) { WidenPairs(w, low, high); }
inline void LoadWeights(const float* w, F32& low, F32& high) {
  low = Load(w);
  high = Load(w + kLanes);
}

// total[r][c] (+)= the chain over `depth` k of one panel. x: [depth][kRows]; w: [depth][kPanel].
template <int kRows, typename W>
void Tile(const float* x, const W* w, int64_t depth, bool first, Ahead ahead, float* total) {
  F32 sum[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = Zero();
  for (int64_t k = 0; k < depth; ++k, x += kRows, w += kPanel) {
    F32 low, high;
    LoadWeights(w, low, high);
    __builtin_prefetch(ahead.data + k * ahead.step);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 xr = Set1(x[r]);
      sum[r][0] = Fma(xr, low, sum[r][0]);
      sum[r][1] = Fma(xr, high, sum[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float* t = total + r * kPanel;
    Store(t, first ? sum[r][0] : Add(Load(t), sum[r][0]));
    Store(t + kLanes, first ? sum[r][1] : Add(Load(t + kLanes), sum[r][1]));
  }
}

template <typename W>
using TileFunction = void (*)(const float*, const W*, int64_t, bool, Ahead, float*);

template <typename W, int... kMinusOne>
constexpr std::array<TileFunction<W>, sizeof...(kMinusOne)> TileFunctions(
    std::integer_sequence<int, kMinusOne...>) {
  return {Tile<kMinusOne + 1, W>...};
}

template <typename W>
constexpr auto kFunctions =
    TileFunctions<W>(std::make_integer_sequence<int, static_cast<int>(kTileRows)>());

template <typename W>
void Widen(const W* w, int64_t depth, float* to) {
  for (int64_t k = 0; k < depth; ++k, w += kPanel, to += kPanel) {
    F32 low, high;
    LoadWeights(w, low, high);
    Store(to, low);
    Store(to + kLanes, high);
  }
}

template <typename W>
void AllTiles(const float* rows,
              int64_t num_rows,
              const PackedMatrix& w,
              int64_t panel,
              int64_t num_panels,
              float* out,
              int64_t stride) {
  alignas(64) float total[kMatmulRows * kGroupColumns];  // [panels][num_rows][kPanel]
  const int64_t depth = w.in_features;
  const W* weights = static_cast<const W*>(w.data) + panel * depth * kPanel;
  const int64_t num_tiles = NumRowTiles(num_rows);
  constexpr int64_t kRowBytes = kPanel * sizeof(W);
  // Tiles of a block of weights, of `from`, laid out as W or widened; each asks memory for its
  // share of `next`, the block after it.
  const auto block = [&](const auto* from, int64_t p, int64_t k, const W* next) {
    using Element = std::remove_cvref_t<decltype(*from)>;
    const int64_t count = std::min(kDepthBlock, depth - k);
    for (int64_t t = 0; t < num_tiles; ++t) {
      const auto [begin, height] = TileOf(t, num_rows, num_tiles);
      kFunctions<Element>[static_cast<size_t>(height - 1)](
          rows + begin * depth + k * height, from, count, k == 0,
          {reinterpret_cast<const char*>(next) + count * kRowBytes * t / num_tiles,
           kRowBytes / num_tiles},
          total + (p * num_rows + begin) * kPanel);
    }
  };
  if (num_tiles <= kFewTiles) {
    // Memory in one stream: near ahead where it is all that takes time, else a block.
    const int64_t ahead = num_tiles == 1 ? kNearAhead / kRowBytes : kDepthBlock;
    for (int64_t p = 0; p < num_panels; ++p) {
      for (int64_t k = 0; k < depth; k += kDepthBlock) {
        const W* from = weights + (p * depth + k) * kPanel;
        block(from, p, k, from + ahead * kPanel);
      }
    }
  } else {
    // All panels of a block of k one after another: rows come from a near cache.
    alignas(64) float wide[kDepthBlock * kPanel];
    for (int64_t k = 0; k < depth; k += kDepthBlock) {
      const int64_t count = std::min(kDepthBlock, depth - k);
      for (int64_t p = 0; p < num_panels; ++p) {
        Widen(weights + (p * depth + k) * kPanel, count, wide);
        block(wide, p, k,
              weights + (p + 1 < num_panels ? (p + 1) * depth + k : k + count) * kPanel);
      }
    }
  }
  if (depth == 0) std::fill_n(total, num_panels * num_rows * kPanel, 0.0f);
  for (int64_t p = 0; p < num_panels; ++p) {
    const int64_t columns = std::min(kPanel, w.out_features - (panel + p) * kPanel);
    for (int64_t r = 0; r < num_rows; ++r) {
      const float* from = total + (p * num_rows + r) * kPanel;
      float* to = out + r * stride + p * kPanel;
      for (int64_t c = 0; c < columns; c += kLanes) {
        StoreFirst(to + c, Load(from + c), columns - c);
      }
    }
  }
}

template <typename T>
void PackPanel(const T* source, int64_t out_features, int64_t in_features, int64_t panel, T* to) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));  // k of one cache line of a row
  for (int64_t k = 0; k < in_features; k += kLine) {
    const int64_t count = std::min(kLine, in_features - k);
    for (int64_t i = 0; i < kPanel; ++i) {
      // bf16: lane l holds outputs l (low half) and l + kLanes (high half).
      const int64_t output = sizeof(T) == 2 ? i / 2 + (i % 2) * kLanes : i;
      const int64_t row = panel * kPanel + output;
      T* column = to + k * kPanel + i;
      if (row >= out_features) {
        for (int64_t j = 0; j < count; ++j) column[j * kPanel] = T{};
      } else {
        const T* from = source + row * in_features + k;
        for (int64_t j = 0; j < count; ++j) column[j * kPanel] = from[j];
      }
    }
  }
}

}  // namespace

size_t PackedBytes(DType dtype, int64_t out_features, int64_t in_features) {
  const int64_t panels = (out_features + kPanel - 1) / kPanel;
  return static_cast<size_t>(panels * kPanel * in_features) * DTypeSize(dtype);
}

void PackMatrix(
    const void* source, DType dtype, int64_t out_features, int64_t in_features, void* packed) {
  const int64_t panels = (out_features + kPanel - 1) / kPanel;
  const int64_t elements = kPanel * in_features;
  for (int64_t p = 0; p < panels; ++p) {
    if (dtype == DType::kBF16) {
      PackPanel(static_cast<const BFloat16*>(source), out_features, in_features, p,
                static_cast<BFloat16*>(packed) + p * elements);
    } else {
      DS_CHECK(dtype == DType::kF32) << DTypeName(dtype);
      PackPanel(static_cast<const float*>(source), out_features, in_features, p,
                static_cast<float*>(packed) + p * elements);
    }
  }
}

int64_t NumRowTiles(int64_t num_rows) { return (num_rows + kTileRows - 1) / kTileRows; }

void PackRows(const float* x,
              int64_t stride,
              const int32_t* index,
              int64_t num_rows,
              int64_t depth,
              int64_t tile_begin,
              int64_t tile_end,
              float* packed) {
  const int64_t num_tiles = NumRowTiles(num_rows);
  for (int64_t t = tile_begin; t < tile_end; ++t) {
    const auto [begin, height] = TileOf(t, num_rows, num_tiles);
    float* to = packed + begin * depth;
    for (int64_t r = 0; r < height; ++r) {
      const float* from = x + stride * (index == nullptr ? begin + r : index[begin + r]);
      for (int64_t k = 0; k < depth; ++k) to[k * height + r] = from[k];
    }
  }
}

void MultiplyPanels(const float* packed_rows,
                    int64_t num_rows,
                    const PackedMatrix& w,
                    int64_t panel,
                    int64_t num_panels,
                    float* out,
                    int64_t stride) {
  if (num_rows == 0) return;
  if (w.dtype == DType::kBF16) {
    AllTiles<BFloat16>(packed_rows, num_rows, w, panel, num_panels, out, stride);
  } else {
    AllTiles<float>(packed_rows, num_rows, w, panel, num_panels, out, stride);
  }
}

}  // namespace deltaserve::cpu
