#pragma once

// What a world of N ranks would hold and exchange for a model, computed from its config alone.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/numerics.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve {

struct PlanReportOptions {
  ParallelOptions parallel = {};
  int64_t kv_memory = int64_t{1} << 30;  // bytes a rank
  int64_t slots = 16;
  Quantization quantization = Quantization::kNone;
  std::string device = "cpu";
  Numerics numerics = kF32Numerics;  // of such a device
  // Tokens of prompt and answer for which concurrency is told, the model's whole context besides.
  std::vector<int64_t> contexts = {1024, 4096, 32768};
};

// Weights of one kind.
struct WeightGroup {
  std::string name;
  int64_t num_parameters = 0;  // of the whole model
  int64_t bytes = 0;           // of the whole model, as releases store it
  int64_t bytes_a_rank = 0;    // vocabulary padding included, quantised as asked
};

// How many sequences of this length the KV memory holds.
struct KvConcurrency {
  int64_t context = 0;
  int64_t sequences = 0;
};

// One kind of exchange of a step.
struct Collective {
  std::string what;
  std::string operation;
  int64_t times_a_step = 0;
  int64_t bytes_a_row = 0;  // that one rank gives, a time; rows of the step, or scored ones
  bool scored_rows_only = false;
};

struct PlanReport {
  ModelConfig config = {};
  PlanReportOptions options = {};
  LocalSizes local = {};  // of rank 0; the other ranks' are equal but for where they begin
  int64_t kv_replicas = 1;
  int64_t padded_vocab_size = 0;
  std::vector<WeightGroup> weights = {};
  WeightGroup total = {};
  // A rank's, in the dtypes of the device.
  int64_t kv_bytes_a_token = 0;
  int64_t kv_blocks = 0;
  int64_t recurrent_bytes_a_sequence = 0;
  int64_t conv_bytes_a_sequence = 0;
  std::vector<KvConcurrency> kv_concurrency = {};
  std::vector<Collective> collectives = {};

  int64_t state_bytes_a_sequence() const {
    return recurrent_bytes_a_sequence + conv_bytes_a_sequence;
  }
};

// INVALID_ARGUMENT for a degree that the model does not allow (ShardPlan::Create).
absl::StatusOr<PlanReport> MakePlanReport(const ModelConfig& config,
                                          const PlanReportOptions& options);

// For people; ends with a newline.
std::string PlanText(const PlanReport& report);

// The same facts as one JSON object; ends with a newline.
std::string PlanJson(const PlanReport& report);

}  // namespace deltaserve
