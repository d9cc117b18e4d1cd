#pragma once

// WeightLoader: this rank's part of each logical weight, from a checkpoint folder or from a seed.

#include <functional>
#include <map>
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
  Buffer data = {};
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape = {};  // local
  Precision precision = Precision::kExact;
};

struct LoadProgress {
  int64_t bytes_read = 0;  // what lies between small pieces and is read with them counts too
  int64_t bytes_total = 0;
  double seconds = 0;
};

struct LoaderOptions {
  int num_readers = 4;
  // Called from the loading thread about once a second and at the end.
  std::function<void(const LoadProgress&)> progress = {};
  // Off: fingerprint() is empty. It costs two small reads a tensor, so one rank is enough.
  bool fingerprint = true;
};

// Not thread safe; readers inside. A weight may be taken once.
class WeightLoader {
 public:
  virtual ~WeightLoader() = default;

  // Reads all of this rank's weights (by several readers), with progress; logs bytes and GB/s. Call
  // once. A tied lm_head that is stored and equal to the embedding is dropped here; one that
  // differs is kept, with a warning, and used (spec 2.6).
  virtual absl::Status LoadAll() = 0;

  // Takes a loaded weight by canonical name. NOT_FOUND names what the checkpoint or the table has
  // not; Has(), after LoadAll, asks first.
  absl::StatusOr<LocalWeight> Take(const std::string& name);
  bool Has(const std::string& name) const;

  // The same, widened to f32 (norms, A_log, dt_bias, conv).
  absl::StatusOr<LocalWeight> TakeF32(const std::string& name);

  // SHA-256 over NormalizedText of the config and, per stored tensor of the text model in name
  // order (names without prefix), name, dtype, shape and the first and last 4 KiB; of random
  // weights: config, seed and the tensors' names, dtypes and shapes. Equal on all ranks and in all
  // modes.
  const std::string& fingerprint() const { return fingerprint_; }

 protected:
  // Drops or keeps a tied head that was loaded; see LoadAll.
  void SettleTiedHead(bool tied);

  std::map<std::string, LocalWeight> weights_;
  std::string fingerprint_;
};

// Opens DIR (index or single file), checks every tensor of the table (missing, misshapen, wrong
// dtype, unknown, truncated file, header longer than its file, overlapping offsets) and reads no
// weight but the few bytes of the fingerprint. Rank 0 logs which tensors are skipped.
absl::StatusOr<std::unique_ptr<WeightLoader>> OpenCheckpoint(const std::string& directory,
                                                             const ModelConfig& config,
                                                             const ShardPlan& plan,
                                                             std::vector<WeightSpec> table,
                                                             const LoaderOptions& options);

// Weights from a counter keyed by stored tensor name and global element index (random_values.h):
// equal at any rank count, and equal to what the checkpoint maker writes for the same seed.
absl::StatusOr<std::unique_ptr<WeightLoader>> RandomWeights(uint64_t seed,
                                                            const ModelConfig& config,
                                                            const ShardPlan& plan,
                                                            std::vector<WeightSpec> table,
                                                            const LoaderOptions& options);

}  // namespace deltaserve
