#pragma once

// StepRunner: one plan through a whole world, as rank 0 does it; PlanObserver: who watches.

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/control_link.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/watchdog.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_plan.h"
#include "worker/engine/step_result.h"
#include "worker/engine/step_timer.h"

namespace deltaserve {

// Called by rank 0's engine thread within each step, so what it does must be short.
class PlanObserver {
 public:
  virtual ~PlanObserver() = default;

  // Before a plan goes out. `step`: from 1, one more each plan; `bytes`: as SerializePlan gives.
  virtual void OnPlan(uint64_t step, std::span<const uint8_t> bytes) = 0;

  // After this rank has run it. Not called for the plan with which a world fails.
  virtual void OnResult(uint64_t step, const StepPlan& plan, const StepResult& result) = 0;
};

// The engine thread of rank 0; what it is made from and its observers outlive it.
class StepRunner {
 public:
  StepRunner(Executor& executor, PlanChannel& channel, ControlLink& link, Watchdog& watchdog)
      : executor_(executor), channel_(channel), link_(link), watchdog_(watchdog) {}

  void AddPlanObserver(PlanObserver* observer) { observers_.push_back(observer); }

  // Broadcasts `plan`, having woken the followers where they sleep, and launches it here. An error
  // is the world's. A plan that is no step is launched alone.
  absl::Status Start(StepPlan plan);
  // The result of the first plan started that has not had it. After an idle or stop plan all ranks
  // have agreed on their slot tables.
  absl::StatusOr<StepResult> Finish();
  // Plans started and not finished.
  int num_in_flight() const { return static_cast<int>(started_.size()); }

  // Both.
  absl::StatusOr<StepResult> Run(const StepPlan& plan);

  // Where observers look at what a step left behind, the next one must wait.
  bool observed() const { return !observers_.empty(); }

  StepTimer& timer() { return timer_; }

  // Whether the followers sleep.
  bool asleep() const { return asleep_; }

 private:
  Executor& executor_;
  PlanChannel& channel_;
  ControlLink& link_;
  Watchdog& watchdog_;
  std::vector<PlanObserver*> observers_;
  struct Started {
    uint64_t step = 0;
    StepPlan plan;
  };
  // All that is in flight must be done within what all of it is allowed.
  void ArmWatchdog(uint64_t step, absl::Duration more);

  std::deque<Started> started_;
  StepTimer timer_;
  bool asleep_ = false;
  std::vector<uint8_t> payload_;
};

}  // namespace deltaserve
