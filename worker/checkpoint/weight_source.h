#pragma once

// WeightSource: where a rank's weights come from, a checkpoint's files or a seed, one at a time.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/thread_pool.h"
#include "kernels/tensor/dtype.h"
#include "worker/checkpoint/random_draws.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// A local weight that is not read yet.
struct WeightItem {
  std::string name = {};  // canonical
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape = {};  // local
  Precision precision = Precision::kExact;
  size_t bytes = 0;
};

// This rank's part of `spec`.
WeightItem ItemOf(const ShardPlan& plan, const WeightSpec& spec, DType stored_dtype);

// One thread at a time. Owner: WeightLoader.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The weights that there are, in the table's order. Called once, first.
  virtual absl::StatusOr<std::vector<WeightItem>> Begin(ThreadPool& readers) = 0;

  // Writes the whole of one of them, zeros where nothing is stored.
  virtual absl::Status Fill(size_t item, ThreadPool& readers, char* out) = 0;

  // False where Fill() is arithmetic alone, so that nothing is gained by calling it before a weight
  // is wanted.
  virtual bool ReadsFiles() const = 0;

  // The calls of Ops::FillNormal by which a device makes the item itself; their elements alone are
  // not zero. Empty where only Fill() can.
  virtual std::vector<RandomDraw> Draws(size_t /*item*/) const { return {}; }

  // All were filled.
  virtual void End() {}

  virtual const std::string& fingerprint() const = 0;
};

}  // namespace deltaserve
