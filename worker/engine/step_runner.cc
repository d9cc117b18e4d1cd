#include "worker/engine/step_runner.h"

#include "absl/time/time.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {

absl::StatusOr<StepResult> StepRunner::Run(const StepPlan& plan) {
  if (asleep_) link_.Wake();
  asleep_ = false;
  SerializePlan(plan, &payload_);
  const uint64_t step = channel_.step() + 1;
  watchdog_.StepStarted(step, absl::Milliseconds(plan.predicted_ms));
  for (PlanObserver* observer : observers_) observer->OnPlan(step, payload_);
  DS_RETURN_IF_ERROR(channel_.Send(static_cast<uint32_t>(plan.kind), payload_));
  timer_.RunBegins(SteadyNow());
  DS_ASSIGN_OR_RETURN(StepResult result, executor_.Run(plan));
  timer_.RunEnds(SteadyNow());
  if (plan.kind != PlanKind::kStep) DS_RETURN_IF_ERROR(executor_.CheckAgreement());
  for (PlanObserver* observer : observers_) observer->OnResult(step, plan, result);
  if (plan.kind == PlanKind::kStep) {
    watchdog_.StepFinished();
  } else {
    watchdog_.Idle();
    asleep_ = plan.kind == PlanKind::kIdle;
  }
  return result;
}

}  // namespace deltaserve
