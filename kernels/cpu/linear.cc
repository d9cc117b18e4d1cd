#include "kernels/cpu/linear.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/parallel.h"

namespace deltaserve::cpu {
namespace {

class CpuLinearWeight final : public LinearWeight {
 public:
  CpuLinearWeight(Buffer buffer, PackedMatrix matrix)
      : buffer_(std::move(buffer)), matrix_(matrix) {}

  int64_t out_features() const override { return matrix_.out_features; }
  int64_t in_features() const override { return matrix_.in_features; }
  size_t bytes() const override { return buffer_.bytes(); }
  const PackedMatrix& matrix() const { return matrix_; }

 private:
  Buffer buffer_;
  PackedMatrix matrix_;
};

}  // namespace

std::unique_ptr<LinearWeight> PackLinear(Buffer weight,
                                         DType dtype,
                                         int64_t out_features,
                                         int64_t in_features,
                                         Precision precision,
                                         const WeightFormat& format,
                                         ThreadPool& pool) {
  DS_CHECK(dtype == DType::kBF16 || dtype == DType::kF32) << DTypeName(dtype);
  const auto row_bytes = in_features * static_cast<int64_t>(DTypeSize(dtype));
  DS_CHECK_GE(weight.bytes(), static_cast<size_t>(out_features * row_bytes));
  const DType packed = format.Packed(dtype, precision);
  Buffer buffer = Buffer::AllocateHost(WeightBytes(packed, out_features, in_features));
  const PackedMatrix matrix{buffer.data(), packed, out_features, in_features, format.fast_bytes};
  ParallelFor(
      pool, matrix.num_panels(), 1, kPanel * in_features, [&](int64_t begin, int64_t end, int) {
        const int64_t rows = std::min(end * kPanel, out_features) - begin * kPanel;
        PackWeight(
            static_cast<const char*>(weight.data()) + begin * kPanel * row_bytes, dtype, packed,
            rows, in_features,
            static_cast<char*>(buffer.data()) + WeightBytes(packed, begin * kPanel, in_features));
      });
  return std::make_unique<CpuLinearWeight>(std::move(buffer), matrix);
}

void Linear(const LinearArgs& args, Arena& arena, ThreadPool& pool) {
  const PackedMatrix& w = static_cast<const CpuLinearWeight*>(args.weight)->matrix();
  const int64_t rows = args.x.dim(0);
  const int64_t depth = w.in_features;
  DS_CHECK(args.x.dim(1) == depth && args.out.dim(0) == rows && args.out.dim(1) == w.out_features)
      << args.x.ToString() << " to " << args.out.ToString();
  if (rows == 0 || w.out_features == 0) return;
  const float* x = args.x.as<float>();
  float* out = args.out.as<float>();
  ArenaScope scope(arena);
  float* packed =
      arena.Allocate(DType::kF32, {BlockFloats(w, std::min(rows, kMatmulRows))}).as<float>();
  for (int64_t row = 0; row < rows; row += kMatmulRows) {
    const int64_t n = std::min(kMatmulRows, rows - row);
    const float* block = x + row * depth;
    if (NeedsBlock(w, n)) {
      const int64_t tiles = NumBlockTiles(w, n);
      ParallelFor(pool, tiles, 1, n * depth / tiles, [&](int64_t begin, int64_t end, int) {
        FillBlock(w, x + row * depth, depth, nullptr, n, begin, end, packed);
      });
      block = packed;
    }
    ParallelFor(pool, w.num_panels(), kPanelGroup, n * depth * (kPanel / kLanes),
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t p = begin; p < end; p += kPanelGroup) {
                    MultiplyBlock(block, n, w, p, std::min(kPanelGroup, end - p),
                                  out + row * w.out_features + p * kPanel, w.out_features);
                  }
                });
  }
}

}  // namespace deltaserve::cpu
