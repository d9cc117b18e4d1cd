#include "kernels/cpu/matmul.h"

#include <algorithm>

#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

// First row of tile t when num_rows rows are cut into num_tiles tiles.
int64_t TileRow(int64_t t, int64_t num_rows, int64_t num_tiles) { return t * num_rows / num_tiles; }

// 16 weights of one k as two vectors.
inline void LoadWeights(const BFloat16* w, __m256& low, __m256& high) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  low = _mm256_castsi256_ps(_mm256_slli_epi32(raw, 16));
  high = _mm256_castsi256_ps(_mm256_and_si256(raw, _mm256_set1_epi32(-65536)));
}
inline void LoadWeights(const float* w, __m256& low, __m256& high) {
  low = Load(w);
  high = Load(w + kLanes);
}

// total[r][16 p + c] (+)= the chain over `depth` k. x: [depth][kRows]; panels `panel_stride` apart.
template <int kRows, int kPanels, typename W>
inline void Chain(
    const float* x, const W* w, int64_t panel_stride, int64_t depth, bool first, float* total) {
  __m256 sum[kRows][kPanels][2];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) sum[r][p][0] = sum[r][p][1] = _mm256_setzero_ps();
  }
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
      __m256 low, high;
      LoadWeights(w + p * panel_stride + k * kPanel, low, high);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256 xr = _mm256_broadcast_ss(x + k * kRows + r);
        sum[r][p][0] = _mm256_fmadd_ps(xr, low, sum[r][p][0]);
        sum[r][p][1] = _mm256_fmadd_ps(xr, high, sum[r][p][1]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < 2 * kPanels; ++i) {
      float* t = total + (r * kPanels * 2 + i) * kLanes;
      const __m256 s = sum[r][i / 2][i % 2];
      Store(t, first ? s : _mm256_add_ps(Load(t), s));
    }
  }
}

// One tile of kRows rows by kPanels panels over the whole depth.
template <int kRows, int kPanels, typename W>
void Tile(const float* x,
          const PackedMatrix& w,
          int64_t panel,
          float* out,
          int64_t stride,
          int64_t columns) {
  alignas(32) float total[kPanel * kRows * kPanels] = {};
  const int64_t depth = w.in_features;
  const int64_t panel_stride = depth * kPanel;
  const W* weights = static_cast<const W*>(w.data) + panel * panel_stride;
  for (int64_t k = 0; k < depth; k += kDepthBlock) {
    Chain<kRows, kPanels>(x + k * kRows, weights + k * kPanel, panel_stride,
                          std::min(kDepthBlock, depth - k), k == 0, total);
  }
  for (int r = 0; r < kRows; ++r) {
    const float* from = total + kPanel * kPanels * r;
    for (int64_t c = 0; c < columns; c += kLanes) {
      StoreFirst(out + r * stride + c, Load(from + c), columns - c);
    }
  }
}

// All panels of a call for one tile of rows: as many at a time as fill the registers.
template <int kRows, typename W>
void RowTile(const float* x,
             const PackedMatrix& w,
             int64_t panel,
             int64_t num_panels,
             float* out,
             int64_t stride) {
  constexpr int kWide = kRows == 1 ? 4 : kRows <= 3 ? 2 : 1;
  const int64_t end = panel + num_panels;
  const auto columns = [&w](int64_t p, int64_t n) {
    return std::min(n * kPanel, w.out_features - p * kPanel);
  };
  for (; panel + kWide <= end; panel += kWide, out += kWide * kPanel) {
    Tile<kRows, kWide, W>(x, w, panel, out, stride, columns(panel, kWide));
  }
  for (; panel < end; ++panel, out += kPanel) {
    Tile<kRows, 1, W>(x, w, panel, out, stride, columns(panel, 1));
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
  using RowTileFunction =
      void (*)(const float*, const PackedMatrix&, int64_t, int64_t, float*, int64_t);
  static constexpr RowTileFunction kFunctions[kTileRows] = {
      RowTile<1, W>, RowTile<2, W>, RowTile<3, W>, RowTile<4, W>, RowTile<5, W>, RowTile<6, W>};
  const int64_t num_tiles = NumRowTiles(num_rows);
  // Panel by panel, so that one panel's weights serve all row tiles out of the nearest cache.
  const int64_t step = num_tiles == 1 ? num_panels : 1;
  for (int64_t p = 0; p < num_panels; p += step) {
    for (int64_t t = 0; t < num_tiles; ++t) {
      const int64_t begin = TileRow(t, num_rows, num_tiles);
      const int64_t height = TileRow(t + 1, num_rows, num_tiles) - begin;
      kFunctions[height - 1](rows + begin * w.in_features, w, panel + p, step,
                             out + begin * stride + p * kPanel, stride);
    }
  }
}

template <typename T>
void PackPanel(const T* source, int64_t out_features, int64_t in_features, int64_t panel, T* to) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));  // k of one cache line of a row
  for (int64_t k = 0; k < in_features; k += kLine) {
    const int64_t count = std::min(kLine, in_features - k);
    for (int64_t i = 0; i < kPanel; ++i) {
      // bf16: lane l holds outputs l (low half) and l + 8 (high half).
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
    const int64_t begin = TileRow(t, num_rows, num_tiles);
    const int64_t height = TileRow(t + 1, num_rows, num_tiles) - begin;
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
