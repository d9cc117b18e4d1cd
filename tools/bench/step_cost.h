#pragma once

// StepCost: what a step of a whole model must read, write and compute, from config and partition
// alone.
//
// Bytes: each weight that the step needs once, in the dtype that releases store (the head where a
// row is scored, of experts those that are expected to be chosen), states read and written, keys
// and values (in the device's dtype) read, and written for the new rows. Activations are left out:
// they stay in caches. FLOPs: products with weights, convolution, delta rule and attention.

#include <cstdint>
#include <vector>

#include "kernels/numerics.h"
#include "tools/bench/cost.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve::bench {

// A sequence of the step: `rows` tokens from position `first` on.
struct StepRows {
  int64_t first = 0;
  int64_t rows = 1;
};

// Of the rank that `plan` is of. `scored`: rows whose logits are computed. Each row chooses experts
// evenly and on its own, so n rows of k out of E choose E (1 - (1 - k/E)^n) different ones. Pure.
Cost StepCost(const ModelConfig& config,
              const ShardPlan& plan,
              const Numerics& numerics,
              Quantization quantization,
              const std::vector<StepRows>& sequences,
              int64_t scored);

}  // namespace deltaserve::bench
