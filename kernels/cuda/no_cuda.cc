#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device.h"

namespace deltaserve::cuda {

absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(int ordinal) {
  return absl::UnimplementedError(
      absl::StrCat("--device=cuda:", ordinal, ": this build has no CUDA device; configure with ",
                   "'cmake --preset cuda' where nvcc is installed, or run with --device=cpu"));
}

void* StreamOf(Device& /*device*/) { return nullptr; }

}  // namespace deltaserve::cuda
