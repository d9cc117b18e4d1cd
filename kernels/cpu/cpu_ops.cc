#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_prepare.h"
#include "kernels/cpu/causal_conv.h"
#include "kernels/cpu/edit_logits.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/fill_normal.h"
#include "kernels/cpu/gated_delta_net.h"
#include "kernels/cpu/int8_matmul.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/log_probs.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/route_experts.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/silu_mul.h"

namespace deltaserve::cpu {
namespace {

class CpuOps final : public Ops {
 public:
  CpuOps(const WeightFormat& format, ThreadPool& pool) : format_(format), pool_(pool) {}

  absl::Status Supports(const ModelShape& shape) const override;
  MemoryNeeds Memory(const OpSizes& /*sizes*/) const override { return {}; }

  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Buffer weight,
                                                           DType dtype,
                                                           int64_t out_features,
                                                           int64_t in_features,
                                                           Precision precision) override {
    return cpu::PackLinear(std::move(weight), dtype, out_features, in_features, precision, format_,
                           pool_);
  }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackTable(TensorView table,
                                                          Precision precision) override {
    return PackLinear(Buffer(table.data(), table.bytes(), nullptr), table.dtype(), table.dim(0),
                      table.dim(1), precision);
  }
  absl::StatusOr<std::unique_ptr<ExpertWeights>> PackExperts(Buffer gate_up,
                                                             Buffer down,
                                                             DType dtype,
                                                             int64_t num_experts,
                                                             int64_t hidden,
                                                             int64_t width) override {
    return cpu::PackExperts(std::move(gate_up), std::move(down), dtype, num_experts, hidden, width,
                            format_, pool_);
  }

  void FillNormal(const FillNormalArgs& args) override { cpu::FillNormal(args, pool_); }

  void BuildRows(const BuildRowsArgs& args) override { cpu::BuildRows(args); }
  void Embed(const EmbedArgs& args) override { cpu::Embed(args, pool_); }
  void RmsNorm(const RmsNormArgs& args) override { cpu::RmsNorm(args, pool_); }
  void AddRmsNorm(const AddRmsNormArgs& args) override { cpu::AddRmsNorm(args, pool_); }
  void Linear(const LinearArgs& args, Arena& arena) override { cpu::Linear(args, arena, pool_); }
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override {
    cpu::GatedDeltaNet(args, arena, pool_);
  }
  void AttentionPrepare(const AttentionPrepareArgs& args) override {
    cpu::AttentionPrepare(args, pool_);
  }
  void Attention(const AttentionArgs& args, Arena& arena) override {
    cpu::Attention(args, arena, pool_);
  }
  void SiluMul(const SiluMulArgs& args) override { cpu::SiluMul(args, pool_); }
  void RouteExperts(const RouteExpertsArgs& args) override { cpu::RouteExperts(args, pool_); }
  void Experts(const ExpertsArgs& args, Arena& arena) override { cpu::Experts(args, arena, pool_); }
  void GatherRows(const GatherRowsArgs& args) override { cpu::GatherRows(args, pool_); }
  void SampleLocal(const SampleLocalArgs& args) override { cpu::SampleLocal(args, pool_); }
  void Sample(const SampleArgs& args, Arena& arena) override { cpu::Sample(args, arena, pool_); }
  void Penalize(const PenalizeArgs& args) override { cpu::Penalize(args); }
  void MaskLogits(const MaskLogitsArgs& args) override { cpu::MaskLogits(args, pool_); }
  void LogProbs(const LogProbsArgs& args, Arena& /*arena*/) override { cpu::LogProbs(args, pool_); }
  void StoreSampled(const StoreSampledArgs& args) override { cpu::StoreSampled(args); }

 private:
  const WeightFormat format_;
  ThreadPool& pool_;
};

absl::Status CpuOps::Supports(const ModelShape& shape) const {
  const auto refuse = [](const char* field, int64_t value, const std::string& legal) {
    return absl::UnimplementedError(
        absl::StrCat("cpu: ", field, " is ", value, "; this device has ", legal));
  };
  for (const auto& [field, value] :
       {std::pair{"head_dim", shape.head_dim},
        std::pair{"linear_key_head_dim", shape.linear_key_head_dim},
        std::pair{"linear_value_head_dim", shape.linear_value_head_dim}}) {
    if (value < 1) return refuse(field, value, "1 and more");
  }
  const int64_t max_rotary = std::min(kMaxRotaryDim, shape.head_dim);
  if (shape.rotary_dim < 0 || shape.rotary_dim % 2 != 0 || shape.rotary_dim > max_rotary) {
    return refuse("the number of rotary dimensions", shape.rotary_dim,
                  absl::StrCat("even numbers from 0 to ", max_rotary));
  }
  if (shape.linear_conv_kernel_dim < 1 || shape.linear_conv_kernel_dim > kMaxConvKernel) {
    return refuse("linear_conv_kernel_dim", shape.linear_conv_kernel_dim,
                  absl::StrCat("1 to ", kMaxConvKernel));
  }
  if (format_.quantization == Quantization::kInt8 && shape.quantized_depth > kMaxInt8Depth) {
    return refuse("the number of inputs of a weight in 8 bits", shape.quantized_depth,
                  absl::StrCat("up to ", kMaxInt8Depth, ", and any without --quantize=int8"));
  }
  return absl::OkStatus();
}

}  // namespace

#if defined(__AVX512F__)
std::unique_ptr<Ops> CreateOpsX86V4(Quantization quantization, ThreadPool& pool, bool vnni) {
  return std::make_unique<CpuOps>(WeightFormat{quantization, vnni}, pool);
}
#elif defined(__AVX2__)
std::unique_ptr<Ops> CreateOpsX86V3(Quantization quantization, ThreadPool& pool) {
  return std::make_unique<CpuOps>(WeightFormat{quantization}, pool);
}
#else
std::unique_ptr<Ops> CreateOpsArmV8(Quantization quantization, ThreadPool& pool) {
  return std::make_unique<CpuOps>(WeightFormat{quantization}, pool);
}
#endif

}  // namespace deltaserve::cpu
