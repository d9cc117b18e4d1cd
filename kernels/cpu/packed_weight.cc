#include "kernels/cpu/packed_weight.h"

#include "kernels/cpu/int8_matmul.h"

namespace deltaserve::cpu {

DType WeightFormat::Packed(DType stored, Precision precision) const {
  const bool int8 = quantization == Quantization::kInt8 && precision == Precision::kMayQuantize;
  return int8 ? DType::kI8 : stored;
}

size_t WeightBytes(DType packed, int64_t out_features, int64_t in_features) {
  return packed == DType::kI8 ? Int8Bytes(out_features, in_features)
                              : PackedBytes(packed, out_features, in_features);
}

void PackWeight(const void* source,
                DType stored,
                DType packed,
                int64_t out_features,
                int64_t in_features,
                void* to) {
  if (packed == DType::kI8) {
    PackInt8(source, stored, out_features, in_features, to);
  } else {
    DS_CHECK(packed == stored) << DTypeName(stored) << " as " << DTypeName(packed);
    PackMatrix(source, stored, out_features, in_features, to);
  }
}

int64_t BlockFloats(const PackedMatrix& w, int64_t num_rows) {
  return w.dtype == DType::kI8 ? Int8BlockFloats(num_rows, w.in_features)
                               : num_rows * w.in_features;
}

bool NeedsBlock(const PackedMatrix& w, int64_t num_rows) {
  return w.dtype == DType::kI8 || num_rows > 1;
}

int64_t NumBlockTiles(const PackedMatrix& w, int64_t num_rows) {
  return w.dtype == DType::kI8 ? NumInt8Tiles(num_rows) : NumRowTiles(num_rows);
}

void FillBlock(const PackedMatrix& w,
               const float* x,
               int64_t stride,
               const int32_t* index,
               int64_t num_rows,
               int64_t tile_begin,
               int64_t tile_end,
               float* block) {
  const auto fill = w.dtype == DType::kI8 ? QuantizeRows : PackRows;
  fill(x, stride, index, num_rows, w.in_features, tile_begin, tile_end, block);
}

void MultiplyBlock(const float* block,
                   int64_t num_rows,
                   const PackedMatrix& w,
                   int64_t panel,
                   int64_t num_panels,
                   float* out,
                   int64_t stride) {
  const auto multiply = w.dtype == DType::kI8 ? MultiplyInt8Panels : MultiplyPanels;
  multiply(block, num_rows, w, panel, num_panels, out, stride);
}

}  // namespace deltaserve::cpu
