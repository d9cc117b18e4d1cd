#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gpu_limits.h"

namespace deltaserve::cuda {

absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(int ordinal,
                                                         const CudaOptions& /*options*/) {
  return absl::UnimplementedError(
      absl::StrCat("--device=cuda:", ordinal, ": this build has no CUDA device; configure with ",
                   "'cmake --preset cuda' where nvcc is installed, or run with --device=cpu"));
}

void* StreamOf(Device& /*device*/) { return nullptr; }

absl::StatusOr<std::unique_ptr<GpuLimitMeter>> GpuLimitMeter::Create(int /*ordinal*/) {
  return absl::UnimplementedError("this build has no CUDA device, whose limits could be measured");
}

}  // namespace deltaserve::cuda
