#pragma once

// Shapes of what a rank keeps between steps, from config, partition and the device's dtypes alone:
// known before a weight is read.

#include <cstdint>

#include "kernels/numerics.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/recurrent_state.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve {

// Pure; any thread.
KvCacheShape KvShapeOf(const ModelConfig& config,
                       const LocalSizes& local,
                       const Numerics& numerics,
                       int64_t num_blocks);
RecurrentStateShape StateShapeOf(const ModelConfig& config,
                                 const LocalSizes& local,
                                 int64_t num_states);

}  // namespace deltaserve
