#include "kernels/cuda/backends.h"
#include "kernels/cuda/flashinfer_attention.h"

namespace deltaserve::cuda {

absl::StatusOr<Backends> ChooseBackends(const CudaOptions& options) {
  if (options.moe == MoeBackend::kCutlass) return NotInThisBuild("--moe-backend is cutlass");
  Backends backends;
  if (options.attention == AttentionBackend::kFlashInfer) {
    backends.attention = &FlashInferAttention;
    backends.attention_scratch = &FlashInferAttentionScratch;
  }
  return backends;
}

}  // namespace deltaserve::cuda
