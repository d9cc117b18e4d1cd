#pragma once

// Engine: the loop of rank 0 behind EngineHandle.

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/comm/control_link.h"
#include "worker/comm/plan_channel.h"
#include "worker/comm/watchdog.h"
#include "worker/engine/admission.h"
#include "worker/engine/engine.h"
#include "worker/engine/engine_observer.h"
#include "worker/engine/executor.h"
#include "worker/engine/request_check.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/step_budget.h"
#include "worker/engine/step_runner.h"

namespace deltaserve {

// Run: the engine thread, once; it alone calls executor, channel and link. All else: any thread.
// Owner: main or a tool; what it is made from outlives it.
//
// Life of a world: every rank makes an Executor; rank 0 calls engine->Run(), the others
// RunFollower(); both return OK after a drain, and then every rank calls ControlLink::Close(). Any
// error of either is the end of the world (LastWords::Die with ExitCodeOf).
class Engine final : public EngineHandle {
 public:
  // `observer`: is told of steps and requests; null where nobody wants to know.
  static std::unique_ptr<Engine> Create(Executor& executor,
                                        PlanChannel& channel,
                                        ControlLink& link,
                                        Watchdog& watchdog,
                                        EngineObserver* observer = nullptr);

  // Until a drain has ended all requests: then OK, after a plan that ends the followers. An error
  // is the world's: every open request has had WORLD_LOST.
  absl::Status Run();

  // Before Run(); `observer` outlives the engine.
  void AddPlanObserver(PlanObserver* observer) { runner_.AddPlanObserver(observer); }

  const EngineCapacity& capacity() const override { return executor_.capacity(); }
  absl::StatusOr<uint64_t> Submit(Request request, std::shared_ptr<RequestSink> sink) override;
  void Cancel(uint64_t ticket) override;
  void Expire(uint64_t ticket) override;
  std::vector<std::string> Abort(const std::vector<std::string>& ids) override;
  EngineLoad load() const override;
  void BeginDrain(absl::Time deadline, bool hand_over) override;
  bool draining() const override;

 private:
  // A request between Submit and its end.
  struct Live {
    std::string id;
    std::shared_ptr<RequestSink> sink;
    RequestRecord record;  // engine thread only
  };
  struct Arrival {
    uint64_t ticket = 0;
    Request request;
  };

  Engine(Executor& executor,
         PlanChannel& channel,
         ControlLink& link,
         Watchdog& watchdog,
         EngineObserver* observer);

  absl::StatusOr<uint64_t> Queue(Request request, std::shared_ptr<RequestSink> sink);
  absl::Status Loop();
  // Moves arrivals and cancels to the scheduler; ends everything where a drain says so. Whether the
  // world is draining.
  bool TakeInbox(absl::Time now);
  absl::Status StartStep(StepPlan plan);
  // Of the first step started: its result to the scheduler, what that makes of it to the sinks.
  absl::Status FinishStep();
  // Sends the followers to sleep; rank 0 then waits in WaitForWork.
  absl::Status GoIdle();
  // Until there is something in the inbox or the world is draining (true), or `deadline`.
  bool WaitForWork(absl::Time deadline);
  absl::Status Stop();
  void Dispatch(const std::vector<SchedulerEvent>& events);
  static void Deliver(RequestSink& sink, const SchedulerEvent& event);
  void EndAll(const absl::Status& status);
  void PublishLoad();
  bool HasWorkLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AdmissionLocked(const Request& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Executor& executor_;
  Watchdog& watchdog_;
  EngineObserver* const observer_;  // may be null
  const EngineOptions options_;

  // A step under way.
  struct Step {
    int64_t prompt_rows = 0;
    int64_t decodes = 0;
    std::chrono::nanoseconds launch{0};  // within StepRunner::Start()
  };

  // Engine thread only.
  StepRunner runner_;
  std::deque<Step> steps_;
  Scheduler scheduler_;
  StepBudget budget_;

  mutable absl::Mutex mutex_;
  std::vector<Arrival> arrivals_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> cancels_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> expired_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::unique_ptr<Live>> live_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  // Arrivals that the scheduler has and load_ does not yet count.
  size_t num_taken_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t arrived_tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // of prompts of those and of arrivals_
  uint64_t requests_seen_ ABSL_GUARDED_BY(mutex_) = 0;
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);  // as of the last step, arrivals not in it
  QueueRoom room_ ABSL_GUARDED_BY(mutex_);   // of the same time, with arrivals
  absl::Duration time_to_admission_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_progress_ ABSL_GUARDED_BY(mutex_);
  bool working_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool hand_over_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time drain_deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
};

// The exit code of a rank whose Run() or RunFollower() returned `status`.
int ExitCodeOf(const absl::Status& status);

}  // namespace deltaserve
