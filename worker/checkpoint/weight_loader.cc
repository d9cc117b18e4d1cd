#include "worker/checkpoint/weight_loader.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {

bool WeightLoader::Has(const std::string& name) const { return weights_.count(name) != 0; }

absl::StatusOr<LocalWeight> WeightLoader::Take(const std::string& name) {
  const auto found = weights_.find(name);
  if (found == weights_.end()) {
    return absl::NotFoundError(absl::StrCat("the checkpoint has no weight ", name));
  }
  LocalWeight weight = std::move(found->second);
  weights_.erase(found);
  return weight;
}

absl::StatusOr<LocalWeight> WeightLoader::TakeF32(const std::string& name) {
  DS_ASSIGN_OR_RETURN(LocalWeight weight, Take(name));
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

void WeightLoader::SettleTiedHead(bool tied) {
  const auto head = weights_.find("lm_head.weight");
  if (!tied || head == weights_.end()) return;
  const LocalWeight& embedding = weights_.at("embed_tokens.weight");
  const bool equal =
      head->second.dtype == embedding.dtype &&
      std::memcmp(head->second.data.data(), embedding.data.data(), embedding.data.bytes()) == 0;
  if (equal) {
    weights_.erase(head);
  } else {
    LogWarning(
        "tie_word_embeddings is true but the checkpoint's lm_head.weight differs from its "
        "embedding; lm_head.weight is used");
  }
}

}  // namespace deltaserve
