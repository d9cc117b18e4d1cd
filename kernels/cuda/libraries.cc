#include "kernels/cuda/backends.h"
#include "kernels/cuda/flashinfer_attention.h"
#include "kernels/cuda/gathered_experts.h"

namespace deltaserve::cuda {

absl::StatusOr<Backends> ChooseBackends(const CudaOptions& options) {
  Backends backends;
  if (options.attention == AttentionBackend::kFlashInfer) {
    backends.attention = &FlashInferAttention;
    backends.attention_scratch = &FlashInferAttentionScratch;
  }
  if (options.moe == MoeBackend::kCutlass) {
    backends.experts = &GatheredExperts;
    backends.experts_scratch = &GatheredExpertsScratch;
  }
  return backends;
}

}  // namespace deltaserve::cuda
