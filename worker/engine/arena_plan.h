#pragma once

// What steps take of the arena, known before there is a model: the memory plan's part of it.

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve {

// Bytes of one part of a step, such as an attention layer. Parts follow each other, so the arena is
// as large as the largest.
struct ArenaUse {
  int64_t fixed = 0;
  int64_t per_slot = 0;
  int64_t per_row = 0;  // of prompts
};

// What the device's ops will take of a rank's memory, with up to `slots` sequences.
MemoryNeeds NeedsOf(const ModelConfig& config,
                    const ShardPlan& plan,
                    Device& device,
                    int64_t slots);

// One kind of layer each, and the sampler's two ways. Pure.
std::vector<ArenaUse> PlanArena(const ModelConfig& config,
                                const ShardPlan& plan,
                                const Numerics& numerics,
                                const MemoryNeeds& needs,
                                int64_t slots);

}  // namespace deltaserve
