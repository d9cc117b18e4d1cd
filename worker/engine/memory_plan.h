#pragma once

// The memory that flags ask of a rank, known from config, partition and device alone, so that what
// cannot hold is refused before a weight is read.

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"
#include "worker/engine/arena_plan.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {

// Bytes of one rank. What is a few bytes a row is not counted, nor what the ops of a CPU take for
// each of their threads.
struct MemoryPlan {
  int64_t weights = 0;
  int64_t scored_rows = 0;           // logits of prompts
  int64_t per_slot = 0;              // recurrent state, a row of exchange, its logits, block table
  int64_t per_block = 0;             // keys and values, exactly
  int64_t kv_blocks = 0;             // of --kv-memory, no more than all slots can use
  int64_t per_row = 0;               // of a step: exchange
  int64_t prompt_rows = 0;           // most of a step
  std::vector<ArenaUse> arena = {};  // of which a step takes the largest
  int64_t per_queued_token = 0;      // rank 0 only
  int64_t per_queued = 0;
  int64_t max_context = 0;  // tokens, as the flag and the model say
};

// Pure. INVALID_ARGUMENT for --max-context beyond what the model was made for, for --kv-memory that
// holds no block or not one sequence of a --max-context that was given.
absl::StatusOr<MemoryPlan> PlanMemory(const ModelConfig& config,
                                      const ShardPlan& plan,
                                      Device& device,
                                      const EngineOptions& options);

// Of the arena, with so many slots and rows of prompts in a step.
int64_t ArenaBytes(const MemoryPlan& plan, int64_t slots, int64_t rows);

// INVALID_ARGUMENT where a rank that has `memory` bytes cannot hold the plan, naming the flag that
// takes most and its largest value beside the others; or --model, where weights alone are too
// large.
absl::Status CheckMemory(const MemoryPlan& plan, const EngineOptions& options, int64_t memory);

// The plan without what lies in the host's memory whatever the device is: requests that wait.
MemoryPlan WithoutHostParts(MemoryPlan plan);

}  // namespace deltaserve
