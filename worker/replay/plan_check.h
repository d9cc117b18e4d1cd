#pragma once

// CheckPlan: whether a plan that comes from a file can be run.

#include "absl/status/status.h"
#include "worker/engine/engine.h"
#include "worker/engine/slot_table.h"
#include "worker/engine/step_plan.h"

namespace deltaserve {

// DATA_LOSS, saying what is wrong with it, for a plan that no engine of a world of `capacity` makes
// while its slots are `slots`. Plans that an engine makes need no such look: their requests were
// checked.
absl::Status CheckPlan(const StepPlan& plan,
                       const SlotTable& slots,
                       const EngineCapacity& capacity);

}  // namespace deltaserve
