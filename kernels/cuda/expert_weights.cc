#include "kernels/cuda/expert_weights.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "kernels/device.h"

namespace deltaserve::cuda {
namespace {

// `count` elements in the memory of the device, as bf16.
absl::StatusOr<Buffer> Upload(Device& device, Buffer source, DType dtype, int64_t count) {
  if (!source.host_addressable()) {
    DS_CHECK(dtype == DType::kBF16) << DTypeName(dtype) << " in the memory of " << device.Name();
    return source;
  }
  DS_CHECK(dtype == DType::kBF16 || dtype == DType::kF32) << DTypeName(dtype);
  DS_ASSIGN_OR_RETURN(Buffer buffer, device.Allocate(static_cast<size_t>(count) * sizeof(BFloat16),
                                                     MemoryKind::kDevice));
  if (count == 0) return buffer;
  const TensorView to = buffer.View(DType::kBF16, {count});
  if (dtype == DType::kBF16) {
    device.CopyToDevice(to, source.data());
    DS_RETURN_IF_ERROR(device.Synchronize());
    return buffer;
  }
  const float* const values = static_cast<const float*>(source.data());
  constexpr int64_t kAtOnce = int64_t{1} << 22;
  const Buffer rounded =
      Buffer::AllocateHost(static_cast<size_t>(std::min(count, kAtOnce)) * sizeof(BFloat16));
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    const int64_t n = std::min(kAtOnce, count - begin);
    std::transform(values + begin, values + begin + n, static_cast<BFloat16*>(rounded.data()),
                   [](float value) { return ToBFloat16(value); });
    device.CopyToDevice(to.Rows(begin, n), rounded.data());
    DS_RETURN_IF_ERROR(device.Synchronize());
  }
  return buffer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertWeights>> PackExperts(Device& device,
                                                           Buffer gate_up,
                                                           Buffer down,
                                                           DType dtype,
                                                           int64_t num_experts,
                                                           int64_t hidden,
                                                           int64_t width) {
  DS_CHECK(hidden % kExpertUnit == 0 && width % kExpertUnit == 0)
      << "hidden size " << hidden << ", width of an expert " << width
      << ": on CUDA both are multiples of " << kExpertUnit;
  const int64_t count = num_experts * hidden * width;
  DS_CHECK_GE(gate_up.bytes(), static_cast<size_t>(2 * count) * DTypeSize(dtype));
  DS_CHECK_GE(down.bytes(), static_cast<size_t>(count) * DTypeSize(dtype));
  // The host's memory goes as soon as it can.
  DS_ASSIGN_OR_RETURN(Buffer gate_up_there, Upload(device, std::move(gate_up), dtype, 2 * count));
  DS_ASSIGN_OR_RETURN(Buffer down_there, Upload(device, std::move(down), dtype, count));
  return std::make_unique<CudaExpertWeights>(std::move(gate_up_there), std::move(down_there),
                                             num_experts, hidden, width);
}

}  // namespace deltaserve::cuda
