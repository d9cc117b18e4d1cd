#include "worker/engine/step_runner.h"

#include <utility>

#include "absl/time/time.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {

void StepRunner::ArmWatchdog(uint64_t step, absl::Duration more) {
  for (const Started& started : started_) more += absl::Milliseconds(started.plan.predicted_ms);
  watchdog_.StepStarted(step, more);
}

absl::Status StepRunner::Start(StepPlan plan) {
  DS_CHECK(started_.empty() || plan.kind == PlanKind::kStep);
  if (asleep_) link_.Wake();
  asleep_ = false;
  SerializePlan(plan, &payload_);
  const uint64_t step = channel_.step() + 1;
  ArmWatchdog(step, absl::Milliseconds(plan.predicted_ms));
  for (PlanObserver* observer : observers_) observer->OnPlan(step, payload_);
  DS_RETURN_IF_ERROR(channel_.Send(static_cast<uint32_t>(plan.kind), payload_));
  if (started_.empty()) timer_.RunBegins(SteadyNow());
  DS_RETURN_IF_ERROR(executor_.Launch(plan));
  started_.push_back({.step = step, .plan = std::move(plan)});
  return absl::OkStatus();
}

absl::StatusOr<StepResult> StepRunner::Finish() {
  DS_CHECK(!started_.empty());
  DS_ASSIGN_OR_RETURN(StepResult result, executor_.Collect());
  const auto [step, plan] = std::move(started_.front());
  started_.pop_front();
  timer_.RunEnds(SteadyNow());
  if (plan.kind != PlanKind::kStep) DS_RETURN_IF_ERROR(executor_.CheckAgreement());
  for (PlanObserver* observer : observers_) observer->OnResult(step, plan, result);
  if (!started_.empty()) {  // the device has been at it since
    ArmWatchdog(started_.front().step, absl::ZeroDuration());
    timer_.RunBegins(SteadyNow());
  } else if (plan.kind == PlanKind::kStep) {
    watchdog_.StepFinished();
  } else {
    watchdog_.Idle();
    asleep_ = plan.kind == PlanKind::kIdle;
  }
  return result;
}

absl::StatusOr<StepResult> StepRunner::Run(const StepPlan& plan) {
  DS_RETURN_IF_ERROR(Start(plan));
  return Finish();
}

}  // namespace deltaserve
