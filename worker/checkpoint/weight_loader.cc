#include "worker/checkpoint/weight_loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/ops.h"

namespace deltaserve {

WeightLoader::WeightLoader(std::unique_ptr<WeightSource> source, const LoaderOptions& options)
    : options_(options), source_(std::move(source)), readers_(std::max(1, options.num_readers)) {}

WeightLoader::~WeightLoader() = default;

absl::Status WeightLoader::LoadAll() {
  DS_ASSIGN_OR_RETURN(std::vector<WeightItem> items, source_->Begin(readers_));
  std::vector<size_t> bytes;
  for (WeightItem& item : items) {
    index_[item.name] = entries_.size();
    bytes.push_back(item.bytes);
    entries_.push_back({.item = std::move(item), .data = {}});
  }
  if (!source_->ReadsFiles()) return absl::OkStatus();
  if (options_.device != nullptr && !options_.device->HostAddressable()) {
    stage_ = std::make_unique<WeightStage>(
        *options_.device, options_.staging_bytes, bytes,
        [this](size_t item, char* out) { return source_->Fill(item, readers_, out); });
    return absl::OkStatus();
  }
  for (size_t i = 0; i < entries_.size(); ++i) {
    Buffer data = Buffer::AllocateHost(bytes[i]);
    DS_RETURN_IF_ERROR(source_->Fill(i, readers_, static_cast<char*>(data.data())));
    entries_[i].data = std::move(data);
  }
  source_->End();
  return absl::OkStatus();
}

bool WeightLoader::Has(const std::string& name) const { return index_.count(name) != 0; }

absl::StatusOr<LocalWeight> WeightLoader::Take(const std::string& name) {
  return TakeFor(options_.device, name);
}

absl::StatusOr<LocalWeight> WeightLoader::TakeFor(Device* device, const std::string& name) {
  const auto found = index_.find(name);
  if (found == index_.end()) {
    return absl::NotFoundError(absl::StrCat("the checkpoint has no weight ", name));
  }
  const size_t at = found->second;
  index_.erase(found);
  Entry& entry = entries_[at];
  if (stage_ != nullptr) {
    DS_ASSIGN_OR_RETURN(entry.data, stage_->Take(at));
  } else if (!source_->ReadsFiles()) {
    DS_ASSIGN_OR_RETURN(entry.data, Draw(device, at));
  }
  if (stage_ != nullptr && index_.empty()) source_->End();
  return LocalWeight{.data = std::move(entry.data),
                     .dtype = entry.item.dtype,
                     .shape = std::move(entry.item.shape),
                     .precision = entry.item.precision};
}

absl::StatusOr<Buffer> WeightLoader::Draw(Device* device, size_t item) {
  const WeightItem& weight = entries_[item].item;
  std::vector<RandomDraw> draws;
  if (device != nullptr) draws = source_->Draws(item);
  if (draws.empty()) {
    Buffer data = Buffer::AllocateHost(weight.bytes);
    DS_RETURN_IF_ERROR(source_->Fill(item, readers_, static_cast<char*>(data.data())));
    return data;
  }
  DS_ASSIGN_OR_RETURN(Buffer data, device->Allocate(weight.bytes, MemoryKind::kDevice));
  const TensorView all = data.View(weight.dtype, {NumElements(weight.shape)});
  int64_t drawn = 0;
  for (const RandomDraw& draw : draws) drawn += draw.rows * draw.columns;
  if (drawn < all.numel()) device->Zero(all);
  for (RandomDraw& draw : draws) {
    draw.args.out = all.Rows(draw.to, draw.rows * draw.columns).Reshape({draw.rows, draw.columns});
    device->ops().FillNormal(draw.args);
  }
  return data;
}

absl::StatusOr<LocalWeight> WeightLoader::TakeF32(const std::string& name) {
  DS_ASSIGN_OR_RETURN(LocalWeight weight, TakeFor(nullptr, name));
  if (weight.dtype == DType::kF32) return weight;
  const int64_t count = NumElements(weight.shape);
  LocalWeight wide;
  wide.data = Buffer::AllocateHost(static_cast<size_t>(count) * sizeof(float));
  wide.dtype = DType::kF32;
  wide.shape = std::move(weight.shape);
  const auto* from = static_cast<const BFloat16*>(weight.data.data());
  auto* to = static_cast<float*>(wide.data.data());
  for (int64_t i = 0; i < count; ++i) to[i] = ToFloat(from[i]);
  return wide;
}

}  // namespace deltaserve
