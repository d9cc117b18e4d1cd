#include "kernels/cuda/cuda_ops.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/cuda/attention_prepare.h"
#include "kernels/cuda/edit_logits.h"
#include "kernels/cuda/expert_weights.h"
#include "kernels/cuda/few_rows_experts.h"
#include "kernels/cuda/fill_normal.h"
#include "kernels/cuda/gated_delta_net.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/log_probs.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/route_experts.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/sample.h"

namespace deltaserve::cuda {
namespace {

class CudaOps final : public Ops {
 public:
  CudaOps(Device& device,
          Queue& queue,
          std::unique_ptr<MatrixProducts> products,
          const Backends& backends)
      : device_(device), queue_(queue), products_(std::move(products)), backends_(backends) {}

  absl::Status Supports(const ModelShape& shape) const override;
  MemoryNeeds Memory(const OpSizes& sizes) const override {
    return {.packs_tables = false,
            .attention = backends_.attention_scratch(sizes, queue_),
            .gated_delta_net = GatedDeltaNetScratch(sizes),
            .experts = backends_.experts_scratch(sizes),
            .per_sampled_row = SampleScratch(sizes.vocab_rows)};
  }

  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Buffer weight,
                                                           DType dtype,
                                                           int64_t out_features,
                                                           int64_t in_features,
                                                           Precision /*precision*/) override {
    return cuda::PackLinear(device_, std::move(weight), dtype, out_features, in_features);
  }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackTable(TensorView table,
                                                          Precision /*precision*/) override {
    return cuda::PackTable(device_, table);
  }
  absl::StatusOr<std::unique_ptr<ExpertWeights>> PackExperts(Buffer gate_up,
                                                             Buffer down,
                                                             DType dtype,
                                                             int64_t num_experts,
                                                             int64_t hidden,
                                                             int64_t width) override {
    return cuda::PackExperts(device_, std::move(gate_up), std::move(down), dtype, num_experts,
                             hidden, width);
  }

  void FillNormal(const FillNormalArgs& args) override { cuda::FillNormal(args, queue_); }

  void BuildRows(const BuildRowsArgs& args) override { cuda::BuildRows(args, queue_); }
  void Embed(const EmbedArgs& args) override { cuda::Embed(args, queue_); }
  void RmsNorm(const RmsNormArgs& args) override { cuda::RmsNorm(args, queue_); }
  void AddRmsNorm(const AddRmsNormArgs& args) override { cuda::AddRmsNorm(args, queue_); }
  void Linear(const LinearArgs& args, Arena& /*arena*/) override {
    cuda::Linear(args, *products_, queue_);
  }
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override {
    cuda::GatedDeltaNet(args, arena, queue_);
  }
  void AttentionPrepare(const AttentionPrepareArgs& args) override {
    cuda::AttentionPrepare(args, queue_);
  }
  void Attention(const AttentionArgs& args, Arena& arena) override {
    backends_.attention(args, arena, queue_);
  }
  void SiluMul(const SiluMulArgs& args) override { cuda::SiluMul(args, queue_); }
  void RouteExperts(const RouteExpertsArgs& args) override { cuda::RouteExperts(args, queue_); }
  void Experts(const ExpertsArgs& args, Arena& arena) override {
    backends_.experts(args, arena, queue_);
  }
  void GatherRows(const GatherRowsArgs& args) override { cuda::GatherRows(args, queue_); }
  void SampleLocal(const SampleLocalArgs& args) override { cuda::SampleLocal(args, queue_); }
  void Penalize(const PenalizeArgs& args) override { cuda::Penalize(args, queue_); }
  void MaskLogits(const MaskLogitsArgs& args) override { cuda::MaskLogits(args, queue_); }
  void Sample(const SampleArgs& args, Arena& arena) override { cuda::Sample(args, arena, queue_); }
  void LogProbs(const LogProbsArgs& args, Arena& arena) override {
    cuda::LogProbs(args, arena, queue_);
  }
  void StoreSampled(const StoreSampledArgs& args) override { cuda::StoreSampled(args, queue_); }

 private:
  Device& device_;
  Queue& queue_;
  std::unique_ptr<MatrixProducts> products_;
  const Backends backends_;
};

absl::Status CudaOps::Supports(const ModelShape& shape) const {
  const struct {
    const char* field;
    int64_t value;
    int64_t legal;
  } sizes[] = {{"head_dim", shape.head_dim, 256},
               {"the number of rotary dimensions", shape.rotary_dim, 64},
               {"linear_key_head_dim", shape.linear_key_head_dim, 128},
               {"linear_value_head_dim", shape.linear_value_head_dim, 128},
               {"linear_conv_kernel_dim", shape.linear_conv_kernel_dim, 4}};
  for (const auto& size : sizes) {
    if (size.value != size.legal) {
      return absl::UnimplementedError(absl::StrCat("cuda: ", size.field, " is ", size.value,
                                                   "; this device has ", size.legal,
                                                   " only; run on --device=cpu"));
    }
  }
  const struct {
    const char* field;
    int64_t value;
    int64_t most;
  } limits[] = {{"vocab_size", shape.vocab_size, kMaxTokens},
                {"hidden_size", shape.hidden_size, kMaxNormWidth},
                {"num_experts", shape.num_experts, kMaxExperts},
                {"num_experts_per_tok", shape.top_k, kMaxTopK},
                {"hidden_size times an expert's width on a rank",
                 shape.hidden_size * shape.expert_width, kMaxExpertMatrix}};
  for (const auto& limit : limits) {
    if (limit.value > limit.most) {
      return absl::UnimplementedError(absl::StrCat("cuda: ", limit.field, " is ", limit.value,
                                                   "; this device has up to ", limit.most,
                                                   "; run on --device=cpu"));
    }
  }
  if (shape.num_experts == 0) return absl::OkStatus();
  if (shape.hidden_size % kExpertUnit != 0) {
    return absl::UnimplementedError(absl::StrCat("cuda: hidden_size is ", shape.hidden_size,
                                                 "; with experts this device has multiples of ",
                                                 kExpertUnit, " only; run on --device=cpu"));
  }
  if (shape.expert_width % kExpertUnit != 0) {
    return absl::UnimplementedError(absl::StrCat(
        "cuda: an expert's width on a rank (moe_intermediate_size, or its part with --moe=tp) is ",
        shape.expert_width, "; this device has multiples of ", kExpertUnit,
        " only; use fewer ranks, --moe=ep, or --device=cpu"));
  }
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Ops> CreateCudaOps(Device& device,
                                   Queue& queue,
                                   std::unique_ptr<MatrixProducts> products,
                                   const Backends& backends) {
  return std::make_unique<CudaOps>(device, queue, std::move(products), backends);
}

}  // namespace deltaserve::cuda
