#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_system.h"

namespace deltaserve::cuda {
namespace {

absl::Status NoCuda(const std::string& asked) {
  return absl::UnimplementedError(
      absl::StrCat(asked, ": this build has no CUDA device; configure with ",
                   "'cmake --preset cuda' where nvcc is installed, or run with --device=cpu"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateCudaDevice(int ordinal) {
  return NoCuda(absl::StrCat("--device=cuda:", ordinal));
}

void* StreamOf(Device& /*device*/) { return nullptr; }

absl::StatusOr<System> QuerySystem() { return NoCuda("--device=cuda"); }

absl::StatusOr<int64_t> FreeMemory() { return NoCuda("--device=cuda"); }

}  // namespace deltaserve::cuda
