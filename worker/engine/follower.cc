#include "worker/engine/follower.h"

#include <deque>
#include <numeric>

#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::Status RunFollower(Executor& executor,
                         PlanChannel& channel,
                         ControlLink& link,
                         Watchdog& watchdog) {
  PlanMessage message;
  std::deque<absl::Duration> predicted;  // of the plans in flight
  const auto in_flight = [&predicted] {
    return std::accumulate(predicted.begin(), predicted.end(), absl::ZeroDuration());
  };
  while (true) {
    DS_RETURN_IF_ERROR(channel.Receive(&message));
    DS_ASSIGN_OR_RETURN(const StepPlan plan, ParsePlan(message.payload));
    predicted.push_back(absl::Milliseconds(plan.predicted_ms));
    watchdog.StepStarted(message.step, in_flight());
    DS_RETURN_IF_ERROR(executor.Launch(plan));
    const bool is_step = plan.kind == PlanKind::kStep;
    while (executor.num_in_flight() > (is_step ? executor.options().run_ahead : 0)) {
      DS_RETURN_IF_ERROR(executor.Collect().status());
      predicted.pop_front();
    }
    if (is_step) {
      if (executor.num_in_flight() == 0) {
        watchdog.StepFinished();
      } else {
        watchdog.PlanAwaited(in_flight());
      }
      continue;
    }
    DS_RETURN_IF_ERROR(executor.CheckAgreement());
    watchdog.Idle();
    if (plan.kind == PlanKind::kStop) return absl::OkStatus();
    DS_RETURN_IF_ERROR(link.WaitForWake(absl::InfiniteFuture()));
  }
}

}  // namespace deltaserve
