#include "worker/replay/op_checksums.h"

#include <array>
#include <initializer_list>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/forwarding_ops.h"
#include "worker/replay/checksum.h"

namespace deltaserve {
namespace {

// Reads tensors of a device and chains their checksums.
class TensorSum {
 public:
  explicit TensorSum(Device& device) : device_(device) {}

  void Add(TensorView view) {
    if (view.numel() > 0) sum_ = TensorChecksum(device_, view, sum_);
  }

  // A copy of an i32 tensor.
  std::vector<int32_t> Ints(TensorView view) {
    std::vector<int32_t> values(static_cast<size_t>(view.numel()));
    if (values.empty()) return values;
    device_.CopyToHost(values.data(), view);
    DS_CHECK_OK(device_.Synchronize());
    return values;
  }

  uint64_t sum() const { return sum_; }

 private:
  Device& device_;
  uint64_t sum_ = 0;
};

void AddStates(TensorSum& sum, const RowBatch& rows, std::initializer_list<TensorView> states) {
  for (const int32_t state : sum.Ints(rows.state)) {
    for (const TensorView& all : states) sum.Add(all.Row(state));
  }
}

// The entries of the block table that the step writes: a run at a time.
void AddBlocks(TensorSum& sum, const BuildRowsArgs& args) {
  const std::vector<int32_t> entries = sum.Ints(args.new_entry);
  const TensorView table = args.out->block_table;
  for (size_t begin = 0, end = 0; begin < entries.size(); begin = end) {
    end = begin + 1;
    while (end < entries.size() && entries[end] == entries[end - 1] + 1) ++end;
    sum.Add(table.Reshape({table.numel()}).Rows(entries[begin], static_cast<int64_t>(end - begin)));
  }
}

// Keys and values at the rows' positions, which are the ones that the step writes.
void AddCache(TensorSum& sum, const AttentionPrepareArgs& args) {
  const RowBatch& rows = *args.rows;
  const std::vector<int32_t> positions = sum.Ints(rows.positions);
  const std::vector<int32_t> row_begin = sum.Ints(rows.row_begin);
  const std::vector<int32_t> slots = sum.Ints(rows.slot);
  for (size_t sequence = 0; sequence < slots.size(); ++sequence) {
    const std::vector<int32_t> table = sum.Ints(rows.block_table.Row(slots[sequence]));
    for (int32_t row = row_begin[sequence]; row < row_begin[sequence + 1]; ++row) {
      const int64_t position = positions[static_cast<size_t>(row)];
      const int32_t block = table[static_cast<size_t>(position / kBlockTokens)];
      for (const TensorView& cache : {args.k_cache, args.v_cache}) {
        for (int64_t head = 0; head < args.num_kv_heads; ++head) {
          sum.Add(cache.Row(block).Row(head).Row(position % kBlockTokens));
        }
      }
    }
  }
}

class ChecksumOps final : public ForwardingOps {
 public:
  ChecksumOps(Device& device, OpChecksums& checksums)
      : ForwardingOps(device.ops()), device_(device), checksums_(checksums) {}

  void BuildRows(const BuildRowsArgs& args) override {
    ops().BuildRows(args);
    if (!checksums_.on()) return;
    const RowBatch& rows = *args.out;
    TensorSum sum(device_);
    for (const TensorView& view :
         {rows.ids, rows.positions, rows.row_sequence, rows.row_begin, rows.slot, rows.state}) {
      sum.Add(view);
    }
    AddBlocks(sum, args);
    checksums_.Add({OpKind::kBuildRows, sum.sum()});
  }
  void Embed(const EmbedArgs& args) override {
    ops().Embed(args);
    Note(OpKind::kEmbed, {args.out});
  }
  void RmsNorm(const RmsNormArgs& args) override {
    ops().RmsNorm(args);
    Note(OpKind::kRmsNorm, {args.out});
  }
  void AddRmsNorm(const AddRmsNormArgs& args) override {
    ops().AddRmsNorm(args);
    Note(OpKind::kAddRmsNorm, {args.residual, args.out});
  }
  void Linear(const LinearArgs& args, Arena& arena) override {
    ops().Linear(args, arena);
    Note(OpKind::kLinear, {args.out});
  }
  void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena) override {
    ops().GatedDeltaNet(args, arena);
    if (!checksums_.on()) return;
    TensorSum sum(device_);
    sum.Add(args.out);
    AddStates(sum, *args.rows, {args.conv_state, args.recurrent_state});
    checksums_.Add({OpKind::kGatedDeltaNet, sum.sum()});
  }
  void AttentionPrepare(const AttentionPrepareArgs& args) override {
    ops().AttentionPrepare(args);
    if (!checksums_.on()) return;
    TensorSum sum(device_);
    sum.Add(args.q_out);
    AddCache(sum, args);
    checksums_.Add({OpKind::kAttentionPrepare, sum.sum()});
  }
  void Attention(const AttentionArgs& args, Arena& arena) override {
    ops().Attention(args, arena);
    Note(OpKind::kAttention, {args.out});
  }
  void SiluMul(const SiluMulArgs& args) override {
    ops().SiluMul(args);
    Note(OpKind::kSiluMul, {args.out});
  }
  void RouteExperts(const RouteExpertsArgs& args) override {
    ops().RouteExperts(args);
    Note(OpKind::kRouteExperts, {args.experts, args.weights});
  }
  void Experts(const ExpertsArgs& args, Arena& arena) override {
    ops().Experts(args, arena);
    Note(OpKind::kExperts, {args.out});
  }
  void GatherRows(const GatherRowsArgs& args) override {
    ops().GatherRows(args);
    Note(OpKind::kGatherRows, {args.out});
  }
  void SampleLocal(const SampleLocalArgs& args) override {
    ops().SampleLocal(args);
    Note(OpKind::kSampleLocal, {args.value, args.id});
  }
  void Penalize(const PenalizeArgs& args) override {
    ops().Penalize(args);
    Note(OpKind::kPenalize, {args.logits});
  }
  void MaskLogits(const MaskLogitsArgs& args) override {
    ops().MaskLogits(args);
    Note(OpKind::kMaskLogits, {args.logits});
  }
  void Sample(const SampleArgs& args, Arena& arena) override {
    ops().Sample(args, arena);
    Note(OpKind::kSample, {args.id});
  }
  void LogProbs(const LogProbsArgs& args, Arena& arena) override {
    ops().LogProbs(args, arena);
    Note(OpKind::kLogProbs,
         {args.logprob, args.rank, args.top_id, args.top_logprob, args.named_logprob});
  }
  void StoreSampled(const StoreSampledArgs& args) override {
    ops().StoreSampled(args);
    Note(OpKind::kStoreSampled, {args.id});
  }

 private:
  void Note(OpKind kind, std::initializer_list<TensorView> outputs) {
    if (!checksums_.on()) return;
    TensorSum sum(device_);
    for (const TensorView& output : outputs) sum.Add(output);
    checksums_.Add({kind, sum.sum()});
  }

  Device& device_;
  OpChecksums& checksums_;
};

// All but ops() is the other device's.
class ChecksummedDevice final : public Device {
 public:
  ChecksummedDevice(std::unique_ptr<Device> device, OpChecksums& checksums)
      : device_(std::move(device)), ops_(*device_, checksums) {}

  std::string Name() const override { return device_->Name(); }
  bool HostAddressable() const override { return device_->HostAddressable(); }
  const Numerics& numerics() const override { return device_->numerics(); }
  std::optional<int64_t> FreeMemory() const override { return device_->FreeMemory(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    return device_->Allocate(bytes, kind);
  }
  void CopyToDevice(TensorView dst, const void* src) override { device_->CopyToDevice(dst, src); }
  void CopyToHost(void* dst, TensorView src) override { device_->CopyToHost(dst, src); }
  void Copy(TensorView dst, TensorView src) override { device_->Copy(dst, src); }
  void Zero(TensorView dst) override { device_->Zero(dst); }
  absl::Status Synchronize() override { return device_->Synchronize(); }
  uint64_t Mark() override { return device_->Mark(); }
  absl::Status Await(uint64_t point) override { return device_->Await(point); }
  Ops& ops() override { return ops_; }

 private:
  const std::unique_ptr<Device> device_;
  ChecksumOps ops_;
};

constexpr std::array<const char*, 18> kOpNames = {
    "BuildRows",        "Embed",     "RmsNorm",    "AddRmsNorm",   "Linear",   "GatedDeltaNet",
    "AttentionPrepare", "Attention", "SiluMul",    "RouteExperts", "Experts",  "GatherRows",
    "SampleLocal",      "Penalize",  "MaskLogits", "Sample",       "LogProbs", "StoreSampled"};

}  // namespace

const char* OpName(OpKind kind) {
  const auto index = static_cast<size_t>(kind) - static_cast<size_t>(kFirstOp);
  DS_CHECK_LT(index, kOpNames.size());
  return kOpNames[index];
}

std::unique_ptr<Device> ChecksumDevice(std::unique_ptr<Device> device, OpChecksums& checksums) {
  return std::make_unique<ChecksummedDevice>(std::move(device), checksums);
}

}  // namespace deltaserve
