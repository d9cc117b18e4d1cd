#pragma once

// The plans of a warm-up: steps of every largest shape, run before the first request.

#include <cstdint>
#include <vector>

#include "worker/engine/slot_table.h"
#include "worker/engine/step_plan.h"

namespace deltaserve {

// One prompt of 64 tokens on slot 0, opened and (by the first closes of a later plan) forgotten.
StepPlan ProbePlan();

// Plans to be run in this order on an empty slot table. Together they have the most sequences, the
// most rows that slots, blocks and `token_budget` allow, with the fewest and with the most prompts
// among them, and the most rows on every path of the sampler, with each KV block written by one
// slot only. The last closes all. What a step takes of the arena is linear in rows and sequences,
// so that no mix takes more than these.
std::vector<StepPlan> WarmUpPlans(const SlotLimits& limits, int64_t token_budget);

}  // namespace deltaserve
