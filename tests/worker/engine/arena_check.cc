#include "tests/worker/engine/arena_check.h"

#include "gtest/gtest.h"
#include "worker/engine/executor.h"
#include "worker/engine/memory_plan.h"

namespace deltaserve {

void ExpectArenaAsPlanned(PretendWorld& world,
                          const ModelConfig& config,
                          const ParallelOptions& parallel,
                          Device& device) {
  world.End();
  for (int rank = 0; rank < parallel.ranks; ++rank) {
    const Executor& executor = world.executor(rank);
    const EngineOptions& options = executor.options();
    const auto plan =
        PlanMemory(config, *ShardPlan::Create(config, parallel, rank), device, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const int64_t planned = ArenaBytes(*plan, options.slots, plan->prompt_rows);
    const auto taken = static_cast<int64_t>(executor.scratch_bytes());
    EXPECT_GE(taken, planned - planned / 50) << "rank " << rank;
    EXPECT_LE(taken, planned + planned / 10) << "rank " << rank;
  }
}

}  // namespace deltaserve
