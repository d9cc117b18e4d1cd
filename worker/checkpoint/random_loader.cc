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

class RandomLoader : public WeightLoader {
 public:
  RandomLoader(uint64_t seed,
               const ModelConfig& config,
               const ShardPlan& plan,
               std::vector<WeightSpec> table,
               const LoaderOptions& options)
      : seed_(seed),
        tied_(config.tie_word_embeddings),
        plan_(plan),
        table_(std::move(table)),
        options_(options) {
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

  absl::Status LoadAll() override {
    ThreadPool pool(std::max(1, options_.num_readers));
    for (const WeightSpec& spec : table_) {
      if (!(spec.optional && tied_)) weights_[spec.name] = Draw(spec, pool);
    }
    return absl::OkStatus();
  }

 private:
  LocalWeight Draw(const WeightSpec& spec, ThreadPool& pool) const {
    LocalWeight local;
    local.dtype = spec.stored.front().dtype;
    local.shape = plan_.LocalShape(spec);
    local.precision = spec.precision;
    const auto size = static_cast<int64_t>(DTypeSize(local.dtype));
    local.data = Buffer::AllocateHost(static_cast<size_t>(NumElements(local.shape) * size));
    const ReadPlan pieces = PlanReads(plan_.Ranges(spec, local.dtype));
    if (pieces.needed_bytes < static_cast<int64_t>(local.data.bytes())) {
      std::memset(local.data.data(), 0, local.data.bytes());
    }
    auto* out = static_cast<char*>(local.data.data());
    pool.ParallelFor(static_cast<int64_t>(pieces.ranges.size()),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t i = begin; i < end; ++i) {
                         const ByteRange& range = pieces.ranges[static_cast<size_t>(i)];
                         FillRandom(seed_, spec.stored[static_cast<size_t>(range.stored)],
                                    range.source_offset / size, range.bytes / size, local.dtype,
                                    out + range.destination_offset);
                       }
                     });
    return local;
  }

  const uint64_t seed_;
  const bool tied_;
  const ShardPlan plan_;
  const std::vector<WeightSpec> table_;
  const LoaderOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightLoader>> RandomWeights(uint64_t seed,
                                                            const ModelConfig& config,
                                                            const ShardPlan& plan,
                                                            std::vector<WeightSpec> table,
                                                            const LoaderOptions& options) {
  return std::unique_ptr<WeightLoader>(
      std::make_unique<RandomLoader>(seed, config, plan, std::move(table), options));
}

}  // namespace deltaserve
