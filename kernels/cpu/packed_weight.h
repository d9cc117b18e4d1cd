#pragma once

// One interface to products with packed weights of any kind: f32, bf16 (matmul.h) and 8 bits
// (int8_matmul.h). A weight meets rows in blocks of at most kMatmulRows, laid out as it wants them.

#include <cstdint>

#include "kernels/cpu/matmul.h"
#include "kernels/quantization.h"

namespace deltaserve::cpu {

// How the weights of a rank are packed.
struct WeightFormat {
  Quantization quantization = Quantization::kNone;
  bool fast_bytes = false;  // this processor has FastByteDot

  // The dtype that a weight stored as `stored` is packed to.
  DType Packed(DType stored, Precision precision) const;
};

// Bytes of a packed weight.
size_t WeightBytes(DType packed, int64_t out_features, int64_t in_features);

// source: bf16 or f32 (`stored`) [out, in]; to: WeightBytes(...) bytes. `packed` is `stored` or
// kI8.
void PackWeight(const void* source,
                DType stored,
                DType packed,
                int64_t out_features,
                int64_t in_features,
                void* to);

// f32 of memory that a block of `num_rows` rows may take, at all times no less for more rows.
int64_t BlockFloats(const PackedMatrix& w, int64_t num_rows);

// Whether rows must be laid out; false: the product takes the row itself.
bool NeedsBlock(const PackedMatrix& w, int64_t num_rows);

// Tiles in which FillBlock may be cut over threads.
int64_t NumBlockTiles(const PackedMatrix& w, int64_t num_rows);

// Row i of the block is the in_features values at x + stride * (index == nullptr ? i : index[i]).
void FillBlock(const PackedMatrix& w,
               const float* x,
               int64_t stride,
               const int32_t* index,
               int64_t num_rows,
               int64_t tile_begin,
               int64_t tile_end,
               float* block);

// As MultiplyPanels.
void MultiplyBlock(const float* block,
                   int64_t num_rows,
                   const PackedMatrix& w,
                   int64_t panel,
                   int64_t num_panels,
                   float* out,
                   int64_t stride);

}  // namespace deltaserve::cpu
