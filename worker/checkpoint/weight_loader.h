#pragma once

// WeightLoader: this rank's part of each logical weight, from a checkpoint folder or from a seed.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/thread_pool.h"
#include "kernels/device.h"
#include "kernels/tensor/tensor_view.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_source.h"
#include "worker/checkpoint/weight_spec.h"
#include "worker/checkpoint/weight_stage.h"

namespace deltaserve {

// A local weight in the stored dtype (BF16 or F32). The memory is the host's, pinned where the
// loader stages, and must then stay until copies from it are done; or LoaderOptions::device's,
// where that draws the weight, by what is enqueued there.
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
  // Called from one thread at a time, about once a second and at the end.
  std::function<void(const LoadProgress&)> progress = {};
  // Off: fingerprint() is empty. It costs two small reads a tensor, so one rank is enough.
  bool fingerprint = true;
  // What the weights are for, where it is set. It draws random weights itself, in its memory. Where
  // it is out of the host's reach, weights of files are not held by the host all at once: each is
  // read into this device's pinned memory shortly before it is taken, at most `staging_bytes` of
  // them, or one weight where that is more.
  Device* device = nullptr;
  size_t staging_bytes = size_t{1} << 30;
};

// Not thread safe; readers inside. A weight may be taken once.
class WeightLoader {
 public:
  WeightLoader(std::unique_ptr<WeightSource> source, const LoaderOptions& options);
  ~WeightLoader();

  // Reads all of this rank's weights (by several readers), with progress; logs bytes and GB/s. Call
  // once. Where it stages, reading only begins here and Take() waits for its weight: then take them
  // in the table's order, about. Random weights are drawn by Take(). A tied lm_head that is stored
  // and equal to the embedding is dropped here; one that differs is kept, with a warning, and used
  // (spec 2.6).
  absl::Status LoadAll();

  // Takes a loaded weight by canonical name. NOT_FOUND names what the checkpoint or the table has
  // not; Has(), after LoadAll, asks first. Where it stages, errors of reading too, and where a
  // device draws, of Device::Allocate.
  absl::StatusOr<LocalWeight> Take(const std::string& name);
  bool Has(const std::string& name) const;

  // The same in host memory, widened to f32 (norms, A_log, dt_bias, conv).
  absl::StatusOr<LocalWeight> TakeF32(const std::string& name);

  // SHA-256 over NormalizedText of the config and, per stored tensor of the text model in name
  // order (names without prefix), name, dtype, shape and the first and last 4 KiB; of random
  // weights: config, seed and the tensors' names, dtypes and shapes. Equal on all ranks and in all
  // modes.
  const std::string& fingerprint() const { return source_->fingerprint(); }

 private:
  struct Entry {
    WeightItem item;
    Buffer data;  // empty where it stages or draws
  };

  // `device`: draws what it can; null: the weight shall be in host memory.
  absl::StatusOr<LocalWeight> TakeFor(Device* device, const std::string& name);
  absl::StatusOr<Buffer> Draw(Device* device, size_t item);

  const LoaderOptions options_;
  const std::unique_ptr<WeightSource> source_;
  ThreadPool readers_;
  std::vector<Entry> entries_;
  std::map<std::string, size_t> index_;  // of what was not taken
  std::unique_ptr<WeightStage> stage_;   // its thread reads from the source
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
