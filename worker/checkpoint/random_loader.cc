// RandomWeights of weight_loader.h.

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/thread_pool.h"
#include "worker/checkpoint/random_values.h"
#include "worker/checkpoint/read_plan.h"
#include "worker/checkpoint/sha256.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/checkpoint/weight_table.h"

namespace deltaserve {
namespace {

class RandomSource final : public WeightSource {
 public:
  RandomSource(uint64_t seed,
               const ModelConfig& config,
               const ShardPlan& plan,
               std::vector<WeightSpec> table)
      : seed_(seed), tied_(config.tie_word_embeddings), plan_(plan), table_(std::move(table)) {
    std::vector<StoredTensor> tensors = StoredTensors(config, table_);
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    Sha256 hash;
    hash.Update(NormalizedText(config));
    hash.Update(absl::StrCat("random:", seed, "\n"));
    for (const StoredTensor& tensor : tensors) {
      hash.Update(
          absl::StrCat(tensor.name, " ", DTypeName(tensor.dtype), ShapeText(tensor.shape), "\n"));
    }
    fingerprint_ = hash.Finish();
  }

  absl::StatusOr<std::vector<WeightItem>> Begin(ThreadPool& /*readers*/) override {
    if (tied_) std::erase_if(table_, [](const WeightSpec& spec) { return spec.optional; });
    std::vector<WeightItem> items;
    for (const WeightSpec& spec : table_) {
      items.push_back(ItemOf(plan_, spec, spec.stored.front().dtype));
    }
    return items;
  }

  absl::Status Fill(size_t item, ThreadPool& readers, char* out) override {
    const WeightSpec& spec = table_[item];
    const DType dtype = spec.stored.front().dtype;
    const auto size = static_cast<int64_t>(DTypeSize(dtype));
    const size_t bytes = ItemOf(plan_, spec, dtype).bytes;
    const ReadPlan pieces = PlanReads(plan_.Ranges(spec, dtype));
    if (pieces.needed_bytes < static_cast<int64_t>(bytes)) std::memset(out, 0, bytes);
    readers.ParallelFor(static_cast<int64_t>(pieces.ranges.size()),
                        [&](int64_t begin, int64_t end, int) {
                          for (int64_t i = begin; i < end; ++i) {
                            const ByteRange& range = pieces.ranges[static_cast<size_t>(i)];
                            FillRandom(seed_, spec.stored[static_cast<size_t>(range.stored)],
                                       range.source_offset / size, range.bytes / size, dtype,
                                       out + range.destination_offset);
                          }
                        });
    return absl::OkStatus();
  }

  bool ReadsFiles() const override { return false; }

  std::vector<RandomDraw> Draws(size_t item) const override {
    const WeightSpec& spec = table_[item];
    return PlanDraws(seed_, spec.stored, plan_.Ranges(spec, spec.stored.front().dtype));
  }

  const std::string& fingerprint() const override { return fingerprint_; }

 private:
  const uint64_t seed_;
  const bool tied_;
  const ShardPlan plan_;
  std::vector<WeightSpec> table_;
  std::string fingerprint_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightLoader>> RandomWeights(uint64_t seed,
                                                            const ModelConfig& config,
                                                            const ShardPlan& plan,
                                                            std::vector<WeightSpec> table,
                                                            const LoaderOptions& options) {
  return std::make_unique<WeightLoader>(
      std::make_unique<RandomSource>(seed, config, plan, std::move(table)), options);
}

}  // namespace deltaserve
