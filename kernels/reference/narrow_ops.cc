#include "kernels/reference/narrow_ops.h"

#include <utility>
#include <vector>

namespace deltaserve::reference {
namespace {

// f32 copies of the bf16 tensors of one call; f32 tensors are passed as they are.
class F32Copies {
 public:
  F32Copies() = default;
  F32Copies(const F32Copies&) = delete;
  F32Copies& operator=(const F32Copies&) = delete;
  ~F32Copies() {
    for (const auto& [narrow, wide] : outputs_) {
      for (int64_t i = 0; i < narrow.numel(); ++i) {
        narrow.as<BFloat16>()[i] = ToBFloat16(wide.as<float>()[i]);
      }
    }
  }

  TensorView In(const TensorView& view) {
    if (view.dtype() != DType::kBF16) return view;
    buffers_.push_back(Buffer::AllocateHost(static_cast<size_t>(view.numel()) * sizeof(float)));
    const TensorView wide = WithShapeOf(view, buffers_.back().data());
    for (int64_t i = 0; i < view.numel(); ++i) {
      wide.as<float>()[i] = ToFloat(view.as<BFloat16>()[i]);
    }
    return wide;
  }
  // Also for what is read and written.
  TensorView Out(const TensorView& view) {
    const TensorView wide = In(view);
    if (view.dtype() == DType::kBF16) outputs_.emplace_back(view, wide);
    return wide;
  }

 private:
  static TensorView WithShapeOf(const TensorView& view, void* data) {
    switch (view.rank()) {
      case 1:
        return {data, DType::kF32, {view.dim(0)}};
      case 2:
        return {data, DType::kF32, {view.dim(0), view.dim(1)}};
      case 3:
        return {data, DType::kF32, {view.dim(0), view.dim(1), view.dim(2)}};
      default:
        return {data, DType::kF32, {view.dim(0), view.dim(1), view.dim(2), view.dim(3)}};
    }
  }

  std::vector<Buffer> buffers_;
  std::vector<std::pair<TensorView, TensorView>> outputs_;
};

class NarrowOps final : public Ops {
 public:
  explicit NarrowOps(Ops& ops) : ops_(ops) {}

  absl::Status Supports(const ModelShape& shape) const override { return ops_.Supports(shape); }
  std::unique_ptr<LinearWeight> PackLinear(Buffer weight,
                                           DType dtype,
                                           int64_t out_features,
                                           int64_t in_features,
                                           Precision precision) override {
    return ops_.PackLinear(std::move(weight), dtype, out_features, in_features, precision);
  }
  std::unique_ptr<LinearWeight> PackTable(TensorView table, Precision precision) override {
    return ops_.PackTable(table, precision);
  }
  std::unique_ptr<ExpertWeights> PackExperts(Buffer gate_up,
                                             Buffer down,
                                             DType dtype,
                                             int64_t num_experts,
                                             int64_t hidden,
                                             int64_t width) override {
    return ops_.PackExperts(std::move(gate_up), std::move(down), dtype, num_experts, hidden, width);
  }
  void BuildRows(const BuildRowsArgs& args) override { ops_.BuildRows(args); }
  void Embed(const EmbedArgs& args) override {
    F32Copies f32;
    EmbedArgs wide = args;
    wide.out = f32.Out(args.out);
    ops_.Embed(wide);
  }
  void RmsNorm(const RmsNormArgs& args) override {
    F32Copies f32;
    RmsNormArgs wide = args;
    wide.x = f32.In(args.x);
    wide.out = f32.Out(args.out);
    ops_.RmsNorm(wide);
  }
  void AddRmsNorm(const AddRmsNormArgs& args) override {
    F32Copies f32;
    AddRmsNormArgs wide = args;
    wide.delta = f32.In(args.delta);
    wide.out = f32.Out(args.out);
    ops_.AddRmsNorm(wide);
  }
  void Linear(const LinearArgs& args, Arena& arena) override {
    F32Copies f32;
    LinearArgs wide = args;
    wide.x = f32.In(args.x);
    wide.out = f32.Out(args.out);
    ops_.Linear(wide, arena);
  }
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override {
    F32Copies f32;
    GatedDeltaNetArgs wide = args;
    wide.qkv = f32.In(args.qkv);
    wide.z = f32.In(args.z);
    wide.b = f32.In(args.b);
    wide.a = f32.In(args.a);
    wide.out = f32.Out(args.out);
    ops_.GatedDeltaNet(wide, arena);
  }
  void AttentionPrepare(const AttentionPrepareArgs& args) override {
    F32Copies f32;
    AttentionPrepareArgs wide = args;
    wide.qg = f32.In(args.qg);
    wide.k = f32.In(args.k);
    wide.v = f32.In(args.v);
    wide.q_out = f32.Out(args.q_out);
    wide.k_cache = f32.Out(args.k_cache);
    wide.v_cache = f32.Out(args.v_cache);
    ops_.AttentionPrepare(wide);
  }
  void Attention(const AttentionArgs& args, Arena& arena) override {
    F32Copies f32;
    AttentionArgs wide = args;
    wide.q = f32.In(args.q);
    wide.qg = f32.In(args.qg);
    wide.k_cache = f32.In(args.k_cache);
    wide.v_cache = f32.In(args.v_cache);
    wide.out = f32.Out(args.out);
    ops_.Attention(wide, arena);
  }
  void SiluMul(const SiluMulArgs& args) override {
    F32Copies f32;
    SiluMulArgs wide = args;
    wide.gate_up = f32.In(args.gate_up);
    wide.out = f32.Out(args.out);
    ops_.SiluMul(wide);
  }
  void RouteExperts(const RouteExpertsArgs& args) override { ops_.RouteExperts(args); }
  void Experts(const ExpertsArgs& args, Arena& arena) override {
    F32Copies f32;
    ExpertsArgs wide = args;
    wide.x = f32.In(args.x);
    wide.shared = f32.In(args.shared);
    wide.shared_gate = f32.In(args.shared_gate);
    wide.out = f32.Out(args.out);
    ops_.Experts(wide, arena);
  }
  void GatherRows(const GatherRowsArgs& args) override {
    F32Copies f32;
    GatherRowsArgs wide = args;
    wide.x = f32.In(args.x);
    wide.out = f32.Out(args.out);
    ops_.GatherRows(wide);
  }
  void SampleLocal(const SampleLocalArgs& args) override { ops_.SampleLocal(args); }
  void Penalize(const PenalizeArgs& args) override { ops_.Penalize(args); }
  void MaskLogits(const MaskLogitsArgs& args) override { ops_.MaskLogits(args); }
  void Sample(const SampleArgs& args, Arena& arena) override { ops_.Sample(args, arena); }
  void LogProbs(const LogProbsArgs& args, Arena& arena) override { ops_.LogProbs(args, arena); }

 private:
  Ops& ops_;
};

}  // namespace

std::unique_ptr<Ops> CreateNarrowOps(Ops& ops) { return std::make_unique<NarrowOps>(ops); }

}  // namespace deltaserve::reference
