#pragma once

// The ops that one rank runs for a model of given sizes, in the dtypes of its device: what
// bench_ops --model and tools/gpu_report time.

#include <cstdint>
#include <vector>

#include "tools/bench/op_cases.h"
#include "worker/checkpoint/model_config.h"

namespace deltaserve::bench {

struct ModelCaseSizes {
  std::vector<int64_t> decodes = {1, 32};  // rows of steps of decodes
  int64_t prefill = 1024;                  // rows of a prompt, a multiple of kBlockTokens
  int64_t depth = 4096;                    // positions that a decode sees
  // What a run reads of weights, states, keys and values is at least so much, by as many copies as
  // that takes: no cache of a processor holds it.
  int64_t distinct_bytes = int64_t{256} << 20;
};

// Every op of a step but those of a few integers (BuildRows, Penalize, MaskLogits). One layer's
// weights of each kind; a matrix is named by its use and [out x in].
std::vector<OpGroup> ModelGroups(const ModelConfig& config, const ModelCaseSizes& sizes = {});

// Parts of it: states, keys and values.
std::vector<OpGroup> ModelMixerGroups(const ModelConfig& config, const ModelCaseSizes& sizes);

}  // namespace deltaserve::bench
