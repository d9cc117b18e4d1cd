#pragma once

// Finds the weights of a table in the files of a checkpoint and refuses what does not fit.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/checkpoint/weight_spec.h"

namespace deltaserve {

// A weight whose stored tensors were all found: spec.stored is the form that the files hold.
struct MatchedWeight {
  WeightSpec spec;
  DType dtype = DType::kBF16;             // of every stored tensor
  std::vector<TensorLocation> locations;  // as spec.stored
};

struct TableMatch {
  std::vector<MatchedWeight> weights;  // those there are, in the table's order
  std::string prefix;                  // "model.language_model." or "model."
  std::vector<std::string> skipped;    // MTP and vision tensors, by name
  std::vector<std::string> warnings;   // what was odd but accepted
};

// INVALID_ARGUMENT, naming tensor, file, what it is and what it should be, for: no or two prefixes;
// a missing or misshapen tensor; a dtype other than BF16 and F32, or two in one weight; a tensor
// that is neither in the table nor MTP nor vision. UNIMPLEMENTED for the known variants of other
// producers (spec 2.6) and for quantised tensors.
absl::StatusOr<TableMatch> MatchTable(const CheckpointFiles& files,
                                      const ModelConfig& config,
                                      std::vector<WeightSpec> table);

// All names in one line, those that differ in numbers alone told once: "mtp.fc.weight,
// mtp.layers.*.mlp.up_proj.weight (2)".
std::string SummarizeNames(const std::vector<std::string>& names);

}  // namespace deltaserve
