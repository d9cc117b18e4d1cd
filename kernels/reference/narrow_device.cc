#include "kernels/reference/narrow_device.h"

#include <string>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/ops.h"

namespace deltaserve::reference {
namespace {

// f32 copies of the tensors of one call whose role has another dtype. Each is checked to have the
// dtype of its role.
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

  TensorView In(DType role, const TensorView& view) {
    DS_CHECK(view.dtype() == role || view.rank() == 0) << view.ToString();
    if (view.dtype() != DType::kBF16) return view;
    buffers_.push_back(Buffer::AllocateHost(static_cast<size_t>(view.numel()) * sizeof(float)));
    const TensorView wide = WithShapeOf(view, buffers_.back().data());
    for (int64_t i = 0; i < view.numel(); ++i) {
      wide.as<float>()[i] = ToFloat(view.as<BFloat16>()[i]);
    }
    return wide;
  }
  // Also for what is read and written.
  TensorView Out(DType role, const TensorView& view) {
    const TensorView wide = In(role, view);
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
  NarrowOps(Ops& ops, const Numerics& numerics)
      : ops_(ops), act_(numerics.activation), kv_(numerics.kv), reduction_(numerics.reduction) {}

  absl::Status Supports(const ModelShape& shape) const override { return ops_.Supports(shape); }
  MemoryNeeds Memory(const OpSizes& sizes) const override { return ops_.Memory(sizes); }
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
  void FillNormal(const FillNormalArgs& args) override { ops_.FillNormal(args); }
  void BuildRows(const BuildRowsArgs& args) override { ops_.BuildRows(args); }
  void Embed(const EmbedArgs& args) override {
    F32Copies f32;
    EmbedArgs wide = args;
    wide.out = f32.Out(reduction_, args.out);
    ops_.Embed(wide);
  }
  void RmsNorm(const RmsNormArgs& args) override {
    F32Copies f32;
    RmsNormArgs wide = args;
    wide.x = f32.In(DType::kF32, args.x);
    wide.out = f32.Out(act_, args.out);
    ops_.RmsNorm(wide);
  }
  void AddRmsNorm(const AddRmsNormArgs& args) override {
    F32Copies f32;
    AddRmsNormArgs wide = args;
    wide.delta = f32.In(args.delta.dtype() == DType::kF32 ? DType::kF32 : reduction_, args.delta);
    wide.out = f32.Out(act_, args.out);
    ops_.AddRmsNorm(wide);
  }
  void Linear(const LinearArgs& args, Arena& arena) override {
    F32Copies f32;
    LinearArgs wide = args;
    wide.x = f32.In(act_, args.x);
    DS_CHECK(args.out.dtype() == act_ || args.out.dtype() == reduction_ ||
             args.out.dtype() == DType::kF32)
        << args.out.ToString();
    wide.out = f32.Out(args.out.dtype(), args.out);
    ops_.Linear(wide, arena);
  }
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override {
    F32Copies f32;
    GatedDeltaNetArgs wide = args;
    wide.qkv = f32.In(act_, args.qkv);
    wide.z = f32.In(act_, args.z);
    wide.b = f32.In(act_, args.b);
    wide.a = f32.In(act_, args.a);
    wide.out = f32.Out(act_, args.out);
    ops_.GatedDeltaNet(wide, arena);
  }
  void AttentionPrepare(const AttentionPrepareArgs& args) override {
    F32Copies f32;
    AttentionPrepareArgs wide = args;
    wide.qg = f32.In(act_, args.qg);
    wide.k = f32.In(act_, args.k);
    wide.v = f32.In(act_, args.v);
    wide.q_out = f32.Out(act_, args.q_out);
    wide.k_cache = f32.Out(kv_, args.k_cache);
    wide.v_cache = f32.Out(kv_, args.v_cache);
    ops_.AttentionPrepare(wide);
  }
  void Attention(const AttentionArgs& args, Arena& arena) override {
    F32Copies f32;
    AttentionArgs wide = args;
    wide.q = f32.In(act_, args.q);
    wide.qg = f32.In(act_, args.qg);
    wide.k_cache = f32.In(kv_, args.k_cache);
    wide.v_cache = f32.In(kv_, args.v_cache);
    wide.out = f32.Out(act_, args.out);
    ops_.Attention(wide, arena);
  }
  void SiluMul(const SiluMulArgs& args) override {
    F32Copies f32;
    SiluMulArgs wide = args;
    wide.gate_up = f32.In(act_, args.gate_up);
    wide.out = f32.Out(act_, args.out);
    ops_.SiluMul(wide);
  }
  void RouteExperts(const RouteExpertsArgs& args) override { ops_.RouteExperts(args); }
  void Experts(const ExpertsArgs& args, Arena& arena) override {
    F32Copies f32;
    ExpertsArgs wide = args;
    wide.x = f32.In(act_, args.x);
    wide.shared = f32.In(act_, args.shared);
    wide.shared_gate = f32.In(act_, args.shared_gate);
    wide.out = f32.Out(reduction_, args.out);
    ops_.Experts(wide, arena);
  }
  void GatherRows(const GatherRowsArgs& args) override {
    F32Copies f32;
    GatherRowsArgs wide = args;
    DS_CHECK(args.x.dtype() == act_ || args.x.dtype() == DType::kF32) << args.x.ToString();
    wide.x = f32.In(args.x.dtype(), args.x);
    wide.out = f32.Out(args.x.dtype(), args.out);
    ops_.GatherRows(wide);
  }
  void SampleLocal(const SampleLocalArgs& args) override { ops_.SampleLocal(args); }
  void Penalize(const PenalizeArgs& args) override { ops_.Penalize(args); }
  void MaskLogits(const MaskLogitsArgs& args) override { ops_.MaskLogits(args); }
  void Sample(const SampleArgs& args, Arena& arena) override { ops_.Sample(args, arena); }
  void LogProbs(const LogProbsArgs& args, Arena& arena) override { ops_.LogProbs(args, arena); }
  void StoreSampled(const StoreSampledArgs& args) override { ops_.StoreSampled(args); }

 private:
  Ops& ops_;
  const DType act_, kv_, reduction_;
};

class NarrowDevice final : public Device {
 public:
  NarrowDevice(std::unique_ptr<Device> device, const Numerics& numerics)
      : device_(std::move(device)), numerics_(numerics), ops_(device_->ops(), numerics) {
    DS_CHECK(device_->HostAddressable() && device_->numerics() == kF32Numerics) << device_->Name();
  }

  std::string Name() const override { return "narrow " + device_->Name(); }
  bool HostAddressable() const override { return false; }
  const Numerics& numerics() const override { return numerics_; }
  std::optional<int64_t> FreeMemory() const override { return device_->FreeMemory(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    return device_->Allocate(bytes, kind);
  }
  void CopyToDevice(TensorView dst, const void* src) override { device_->CopyToDevice(dst, src); }
  void CopyToHost(void* dst, TensorView src) override { device_->CopyToHost(dst, src); }
  void Copy(TensorView dst, TensorView src) override { device_->Copy(dst, src); }
  void Zero(TensorView dst) override { device_->Zero(dst); }
  absl::Status Synchronize() override { return device_->Synchronize(); }
  Ops& ops() override { return ops_; }

 private:
  const std::unique_ptr<Device> device_;
  const Numerics numerics_;
  NarrowOps ops_;
};

}  // namespace

std::unique_ptr<Device> CreateNarrowDevice(std::unique_ptr<Device> device,
                                           const Numerics& numerics) {
  return std::make_unique<NarrowDevice>(std::move(device), numerics);
}

}  // namespace deltaserve::reference
