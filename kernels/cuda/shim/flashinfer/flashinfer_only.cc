#include "kernels/cuda/backends.h"

namespace deltaserve::cuda {

absl::StatusOr<Backends> ChooseBackends(const CudaOptions& options) {
  if (options.moe == MoeBackend::kCutlass) return NotInThisBuild("--moe-backend is cutlass");
  return Backends();
}

}  // namespace deltaserve::cuda
