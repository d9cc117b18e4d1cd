#pragma once

// Matrix products with packed weights: the loops under Linear and Experts.
//
// Order of sums (promise 2 of the numerics page): every output is a chain of fused multiply-adds
// over k within each block of kDepthBlock, and the blocks' sums are added in order. No tile shape,
// row count or thread count enters.

#include <cstdint>
#include <memory>

#include "kernels/cpu/simd.h"
#include "kernels/tensor/tensor_view.h"

namespace deltaserve::cpu {

inline constexpr int64_t kPanel = 2 * kLanes;  // outputs side by side in a packed panel
inline constexpr int64_t kPanelGroup = 4;      // panels that one call multiplies at most
inline constexpr int64_t kGroupColumns = kPanel * kPanelGroup;
inline constexpr int64_t kTileRows = kRegisters == 32 ? 12 : 6;  // rows of a register tile, at most
inline constexpr int64_t kDepthBlock = 128;                      // k per chain
inline constexpr int64_t kMatmulRows = 512;                      // rows packed at once

// A weight [out, in] as panels of kPanel outputs, each [in][kPanel], zeros past the last output: a
// call reads memory from front to back. In bf16 panels output i and output i + kLanes lie side by
// side, so that a 32-bit lane has two outputs; those of kI8 are int8_matmul.h's. A view: memory is
// someone else's.
struct PackedMatrix {
  const void* data = nullptr;
  DType dtype = DType::kBF16;
  int64_t out_features = 0;
  int64_t in_features = 0;
  bool fast_bytes = false;  // kI8: by FastByteDot, which this processor has

  int64_t num_panels() const { return (out_features + kPanel - 1) / kPanel; }
};

// Bytes that PackMatrix writes.
size_t PackedBytes(DType dtype, int64_t out_features, int64_t in_features);

// source: bf16 or f32 [out, in]; packed: PackedBytes(...) bytes.
void PackMatrix(
    const void* source, DType dtype, int64_t out_features, int64_t in_features, void* packed);

// Rows [begin, begin + height) of a block.
struct RowTile {
  int64_t begin;
  int64_t height;
};

// Tile t when num_rows rows are cut into num_tiles tiles of nearly equal height.
inline RowTile TileOf(int64_t t, int64_t num_rows, int64_t num_tiles) {
  const int64_t begin = t * num_rows / num_tiles;
  return {begin, (t + 1) * num_rows / num_tiles - begin};
}

// Lays rows out as MultiplyPanels wants them: rows in tiles of nearly equal height, each tile
// [depth][height]. Row i of the block is x + stride * (index == nullptr ? i : index[i]).
// packed: f32 [num_rows * depth]; num_rows <= kMatmulRows. Writes tiles [tile_begin, tile_end).
void PackRows(const float* x,
              int64_t stride,
              const int32_t* index,
              int64_t num_rows,
              int64_t depth,
              int64_t tile_begin,
              int64_t tile_end,
              float* packed);

int64_t NumRowTiles(int64_t num_rows);

// out[i * stride + c] = sum_k row i [k] * w[panel * kPanel + c][k], for rows [0, num_rows) of a
// packed block (for num_rows = 1 the row itself) and the columns of panels [panel, panel +
// num_panels); num_panels <= kPanelGroup; columns past out_features are not written.
void MultiplyPanels(const float* packed_rows,
                    int64_t num_rows,
                    const PackedMatrix& w,
                    int64_t panel,
                    int64_t num_panels,
                    float* out,
                    int64_t stride);

}  // namespace deltaserve::cpu
