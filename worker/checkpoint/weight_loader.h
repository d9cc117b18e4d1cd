#pragma once

// WeightLoader: this rank's part of each logical weight, from a checkpoint folder or from a seed.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/tensor/tensor_view.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// A local weight in host memory, in the stored dtype (BF16 or F32).
struct LocalWeight {
  Buffer data;
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;  // local
};

struct LoadProgress {
  int64_t bytes_read = 0;
  int64_t bytes_total = 0;
  double seconds = 0;
};

struct LoaderOptions {
  int num_readers = 4;
  // Called from the loading thread about once a second and at the end.
  std::function<void(const LoadProgress&)> progress;
};

// Not thread safe; readers inside. A weight may be taken once.
class WeightLoader {
 public:
  virtual ~WeightLoader() = default;

  // Reads all of this rank's weights (by several readers), with progress.
  virtual absl::Status LoadAll() = 0;

  // Takes a loaded weight by canonical name. NOT_FOUND names what the table has not; Has() asks
  // first.
  virtual absl::StatusOr<LocalWeight> Take(const std::string& name) = 0;
  virtual bool Has(const std::string& name) const = 0;

  // The same, widened to f32 (norms, A_log, dt_bias, conv).
  absl::StatusOr<LocalWeight> TakeF32(const std::string& name);

  // SHA-256 over the normalised config and, per tensor in name order, name, dtype, shape and the
  // first and last 4 KiB (protos.md); of random weights: config, seed and the table.
  virtual std::string fingerprint() const = 0;
};

// Opens DIR (index or single file), checks every tensor of the table (missing, misshapen, wrong
// dtype, unknown inside text layers, truncated file, header longer than its file, overlapping
// offsets) and reads no weight.
absl::StatusOr<std::unique_ptr<WeightLoader>> OpenCheckpoint(const std::string& directory,
                                                             const ModelConfig& config,
                                                             const ShardPlan& plan,
                                                             std::vector<WeightSpec> table,
                                                             const LoaderOptions& options);

// Weights from a counter keyed by stored tensor name and global element index: equal at any rank
// count.
absl::StatusOr<std::unique_ptr<WeightLoader>> RandomWeights(uint64_t seed,
                                                            const ModelConfig& config,
                                                            const ShardPlan& plan,
                                                            std::vector<WeightSpec> table,
                                                            const LoaderOptions& options);

}  // namespace deltaserve
