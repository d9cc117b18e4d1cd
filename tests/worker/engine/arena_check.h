#pragma once

// Whether what was planned of a rank's arena is what its steps took.

#include "kernels/device.h"
#include "tests/worker/engine/pretend_world.h"
#include "worker/checkpoint/model_config.h"
#include "worker/checkpoint/shard_plan.h"

namespace deltaserve {

// Ends the world, then looks at each of its ranks. The plan knows nothing of padding and of arrays
// of a few bytes a row. `device`: such as the world's are.
void ExpectArenaAsPlanned(PretendWorld& world,
                          const ModelConfig& config,
                          const ParallelOptions& parallel,
                          Device& device);

}  // namespace deltaserve
