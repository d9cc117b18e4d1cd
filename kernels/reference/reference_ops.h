#pragma once

// The ops of the reference device; one .cc file a group of them. Formulas: kernels/ops.h.

#include <memory>
#include <vector>

#include "kernels/ops.h"

namespace deltaserve::reference {

// Row-major matrix in double, widened from bf16 or f32.
struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<double> data;

  // `source`: [rows, columns] of `dtype`, from element `offset`.
  static Matrix From(
      const void* source, DType dtype, int64_t offset, int64_t rows, int64_t columns);
  // y[r] = sum_c (r, c) x[c]
  std::vector<double> Times(const std::vector<double>& x) const;
};

double Sigmoid(double x);
double Silu(double x);

// x * rsqrt(mean(x^2) + eps) * weight
std::vector<double> RmsNormalize(const std::vector<double>& x, const float* weight, double eps);

// `n` values from `p`, widened.
std::vector<double> Widen(const float* p, int64_t n);

class ReferenceOps final : public Ops {
 public:
  absl::Status Supports(const ModelShape& shape) const override;
  MemoryNeeds Memory(const OpSizes& /*sizes*/) const override { return {}; }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Buffer weight,
                                                           DType dtype,
                                                           int64_t out_features,
                                                           int64_t in_features,
                                                           Precision precision) override;
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
                                                             int64_t width) override;
  void FillNormal(const FillNormalArgs& args) override;
  void BuildRows(const BuildRowsArgs& args) override;
  void Embed(const EmbedArgs& args) override;
  void RmsNorm(const RmsNormArgs& args) override;
  void AddRmsNorm(const AddRmsNormArgs& args) override;
  void Linear(const LinearArgs& args, Arena& arena) override;
  // By the recurrent rule, token by token, for decodes and chunks alike.
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override;
  void AttentionPrepare(const AttentionPrepareArgs& args) override;
  void Attention(const AttentionArgs& args, Arena& arena) override;
  void SiluMul(const SiluMulArgs& args) override;
  void RouteExperts(const RouteExpertsArgs& args) override;
  void Experts(const ExpertsArgs& args, Arena& arena) override;
  void GatherRows(const GatherRowsArgs& args) override;
  void SampleLocal(const SampleLocalArgs& args) override;
  void Sample(const SampleArgs& args, Arena& arena) override;
  void Penalize(const PenalizeArgs& args) override;
  void MaskLogits(const MaskLogitsArgs& args) override;
  void LogProbs(const LogProbsArgs& args, Arena& arena) override;
  void StoreSampled(const StoreSampledArgs& args) override;
};

}  // namespace deltaserve::reference
