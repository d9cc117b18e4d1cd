#pragma once

// ForwardingOps: ops that are those of another device, for classes that change or watch some.

#include <memory>
#include <utility>

#include "kernels/ops.h"

namespace deltaserve {

// Every call goes to `ops`, which outlives this. Threads: as of `ops`. Owner: the device whose ops
// these are.
class ForwardingOps : public Ops {
 public:
  explicit ForwardingOps(Ops& ops) : ops_(ops) {}

  absl::Status Supports(const ModelShape& shape) const override { return ops_.Supports(shape); }
  MemoryNeeds Memory(const OpSizes& sizes) const override { return ops_.Memory(sizes); }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Buffer weight,
                                                           DType dtype,
                                                           int64_t out_features,
                                                           int64_t in_features,
                                                           Precision precision) override {
    return ops_.PackLinear(std::move(weight), dtype, out_features, in_features, precision);
  }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackTable(TensorView table,
                                                          Precision precision) override {
    return ops_.PackTable(table, precision);
  }
  absl::StatusOr<std::unique_ptr<ExpertWeights>> PackExperts(Buffer gate_up,
                                                             Buffer down,
                                                             DType dtype,
                                                             int64_t num_experts,
                                                             int64_t hidden,
                                                             int64_t width) override {
    return ops_.PackExperts(std::move(gate_up), std::move(down), dtype, num_experts, hidden, width);
  }

  void FillNormal(const FillNormalArgs& args) override { ops_.FillNormal(args); }
  void BuildRows(const BuildRowsArgs& args) override { ops_.BuildRows(args); }
  void Embed(const EmbedArgs& args) override { ops_.Embed(args); }
  void RmsNorm(const RmsNormArgs& args) override { ops_.RmsNorm(args); }
  void AddRmsNorm(const AddRmsNormArgs& args) override { ops_.AddRmsNorm(args); }
  void Linear(const LinearArgs& args, Arena& arena) override { ops_.Linear(args, arena); }
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override {
    ops_.GatedDeltaNet(args, arena);
  }
  void AttentionPrepare(const AttentionPrepareArgs& args) override { ops_.AttentionPrepare(args); }
  void Attention(const AttentionArgs& args, Arena& arena) override { ops_.Attention(args, arena); }
  void SiluMul(const SiluMulArgs& args) override { ops_.SiluMul(args); }
  void RouteExperts(const RouteExpertsArgs& args) override { ops_.RouteExperts(args); }
  void Experts(const ExpertsArgs& args, Arena& arena) override { ops_.Experts(args, arena); }
  void GatherRows(const GatherRowsArgs& args) override { ops_.GatherRows(args); }
  void SampleLocal(const SampleLocalArgs& args) override { ops_.SampleLocal(args); }
  void Penalize(const PenalizeArgs& args) override { ops_.Penalize(args); }
  void MaskLogits(const MaskLogitsArgs& args) override { ops_.MaskLogits(args); }
  void Sample(const SampleArgs& args, Arena& arena) override { ops_.Sample(args, arena); }
  void LogProbs(const LogProbsArgs& args, Arena& arena) override { ops_.LogProbs(args, arena); }
  void StoreSampled(const StoreSampledArgs& args) override { ops_.StoreSampled(args); }

 protected:
  Ops& ops() const { return ops_; }

 private:
  Ops& ops_;
};

}  // namespace deltaserve
