#include "kernels/cuda/linear.h"

#include <utility>

#include "kernels/base/status_macros.h"
#include "kernels/cuda/matvec.h"

namespace deltaserve::cuda {
namespace {

class CudaLinearWeight final : public LinearWeight {
 public:
  // matrix: bf16 [out, in]; `buffer` owns its memory, or is empty where something else does.
  CudaLinearWeight(Buffer buffer, TensorView matrix)
      : buffer_(std::move(buffer)), matrix_(matrix) {}

  int64_t out_features() const override { return matrix_.dim(0); }
  int64_t in_features() const override { return matrix_.dim(1); }
  size_t bytes() const override { return buffer_.bytes(); }
  const TensorView& matrix() const { return matrix_; }

 private:
  Buffer buffer_;
  TensorView matrix_;
};

Buffer RoundToBf16(const Buffer& weight, int64_t n) {
  Buffer narrow = Buffer::AllocateHost(static_cast<size_t>(n) * sizeof(BFloat16));
  const auto* from = static_cast<const float*>(weight.data());
  auto* to = static_cast<BFloat16*>(narrow.data());
  for (int64_t i = 0; i < n; ++i) to[i] = ToBFloat16(from[i]);
  return narrow;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(
    Device& device, Buffer weight, DType dtype, int64_t out_features, int64_t in_features) {
  DS_CHECK(dtype == DType::kBF16 || dtype == DType::kF32) << DTypeName(dtype);
  const int64_t n = out_features * in_features;
  DS_CHECK_GE(weight.bytes(), static_cast<size_t>(n) * DTypeSize(dtype));
  if (!weight.host_addressable()) {
    const TensorView there = weight.View(DType::kBF16, {out_features, in_features});
    DS_CHECK(dtype == DType::kBF16) << DTypeName(dtype) << " in the memory of " << device.Name();
    return std::make_unique<CudaLinearWeight>(std::move(weight), there);
  }
  if (dtype == DType::kF32) weight = RoundToBf16(weight, n);
  DS_ASSIGN_OR_RETURN(Buffer memory, device.Allocate(static_cast<size_t>(n) * sizeof(BFloat16),
                                                     MemoryKind::kDevice));
  const TensorView matrix(memory.data(), DType::kBF16, {out_features, in_features});
  device.CopyToDevice(matrix, weight.data());
  DS_RETURN_IF_ERROR(device.Synchronize());  // before `weight` is freed
  return std::make_unique<CudaLinearWeight>(std::move(memory), matrix);
}

absl::StatusOr<std::unique_ptr<LinearWeight>> PackTable(Device& device, TensorView table) {
  if (table.dtype() == DType::kBF16) return std::make_unique<CudaLinearWeight>(Buffer(), table);
  Buffer host = Buffer::AllocateHost(table.bytes());
  device.CopyToHost(host.data(), table);
  DS_RETURN_IF_ERROR(device.Synchronize());
  return PackLinear(device, std::move(host), table.dtype(), table.dim(0), table.dim(1));
}

void Linear(const LinearArgs& args, MatrixProducts& products, Queue& queue) {
  const TensorView& w = static_cast<const CudaLinearWeight*>(args.weight)->matrix();
  const int64_t rows = args.x.dim(0);
  DS_CHECK(args.x.dim(1) == w.dim(1) && args.out.dim(0) == rows && args.out.dim(1) == w.dim(0) &&
           args.x.dtype() == DType::kBF16)
      << args.x.ToString() << " to " << args.out.ToString();
  if (rows == 0 || w.numel() == 0) return;
  if (MatvecTakes(args.x, w)) {
    Matvec(args.x, w, args.out, queue);
  } else {
    products.Multiply(args.x, w, args.out);
  }
}

}  // namespace deltaserve::cuda
