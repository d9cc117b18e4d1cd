#pragma once

// Matrix products with 8-bit weights: PackedMatrix of dtype kI8, made from bf16 or f32.
//
//   out[r][c] = f32(sum_k qx[r][k] qw[c][k]) * (sx[r] * sw[c])
//
// sw[c] = max |w[c]| / 127 for each output, sx[r] = max |x[r]| / 127 for each row as it comes, and
// q = x * (127 / max) to the nearest whole number, ties to even. The sum over k is exact in 32
// bits, so no tile, row count, thread count or instruction set enters. What has a maximum below
// 1e-30 counts as zeros; a row or an output with an infinity or NaN is all NaN.

#include <cstdint>

#include "kernels/cpu/matmul.h"

namespace deltaserve::cpu {

inline constexpr int64_t kMaxInt8Depth = int64_t{1} << 16;  // sums stay within 32 bits

// Bytes that PackInt8 writes. A panel is [ceil(in / 4)][kPanel][4] bytes and then its kPanel
// scales.
size_t Int8Bytes(int64_t out_features, int64_t in_features);

// source: bf16 or f32 (`dtype`) [out, in]; packed: Int8Bytes(...) bytes; in <= kMaxInt8Depth.
void PackInt8(
    const void* source, DType dtype, int64_t out_features, int64_t in_features, void* packed);

// f32 that QuantizeRows takes for `num_rows` rows.
int64_t Int8BlockFloats(int64_t num_rows, int64_t depth);

int64_t NumInt8Tiles(int64_t num_rows);

// Quantises rows and lays them out as MultiplyInt8Panels wants them. Arguments are PackRows's;
// block: Int8BlockFloats(num_rows, depth) f32.
void QuantizeRows(const float* x,
                  int64_t stride,
                  const int32_t* index,
                  int64_t num_rows,
                  int64_t depth,
                  int64_t tile_begin,
                  int64_t tile_end,
                  float* block);

// As MultiplyPanels, with a block of QuantizeRows.
void MultiplyInt8Panels(const float* block,
                        int64_t num_rows,
                        const PackedMatrix& w,
                        int64_t panel,
                        int64_t num_panels,
                        float* out,
                        int64_t stride);

}  // namespace deltaserve::cpu
