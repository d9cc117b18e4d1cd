#pragma once

// RunFollower: the loop of every rank but 0.

#include "absl/status/status.h"
#include "worker/comm/control_link.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/watchdog.h"
#include "worker/engine/executor.h"

namespace deltaserve {

// Receives plans and runs them until a plan says stop: then OK. Sleeps on `link` after an idle
// plan. No queue, no clock, no choice. Any error is the end of the world (see Engine). The engine
// thread of this rank.
absl::Status RunFollower(Executor& executor,
                         PlanChannel& channel,
                         ControlLink& link,
                         Watchdog& watchdog);

}  // namespace deltaserve
