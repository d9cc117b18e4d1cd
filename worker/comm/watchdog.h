#pragma once

// Watchdog: ends the rank when a step, or a phase of the start, takes too long, and knows whether
// the rank is alive.

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/comm/last_words.h"

namespace deltaserve {

struct WatchdogOptions {
  absl::Duration step_floor = absl::Seconds(30);  // least time that a step is allowed
  double step_factor = 10;                        // times what was predicted
  // Most time between a step's end and the next step or Idle().
  absl::Duration gap = absl::Seconds(30);
  absl::Duration period = absl::Milliseconds(250);  // between looks; zero: no thread, tests Look()
  // Time since any fixed moment; empty: the machine's monotonic clock.
  std::function<absl::Duration()> clock;
};

// One thread of its own that never calls MPI. PhaseStarted to Idle: the engine thread, atomics
// only. health(): any thread. Owner: main, after LastWords, which outlives it. Starts idle; so is
// loading a model.
class Watchdog {
 public:
  struct Health {
    bool idle = true;    // no work: nothing can be late
    bool late = false;   // beyond what is allowed; the process is about to end
    uint64_t step = 0;   // last started
    absl::Duration age;  // since the last call of PhaseStarted to Idle
  };

  Watchdog(LastWords& last_words, WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // The phase of the start that `name` says, whose text outlives this, must end within `allowed`,
  // by another phase or Idle(): ranks wait there for each other.
  void PhaseStarted(const char* name, absl::Duration allowed);
  // The step must finish within max(step_floor, step_factor x predicted).
  void StepStarted(uint64_t step, absl::Duration predicted);
  // The next step, or Idle(), must come within `gap`.
  void StepFinished();
  // The same of a rank that goes on to wait for the next plan while steps are in flight, for which
  // `predicted` is left: within `gap` after what those are allowed, since the rank that makes the
  // plans may wait for them first.
  void PlanAwaited(absl::Duration predicted);
  // Nothing is awaited: no work, or a phase that has no deadline.
  void Idle();

  Health health() const;

  // One look, as the thread takes each `period`: LastWords::Die where something is late.
  void Look();

 private:
  enum class Phase : uint32_t { kIdle, kStart, kStep, kGap };

  // One consistent reading of the atomics.
  struct Snapshot {
    Phase phase = Phase::kIdle;
    const char* name = "";
    uint64_t step = 0;
    int64_t age_ns = 0;
    int64_t allowed_ns = 0;
  };

  // What steps in flight are allowed.
  absl::Duration Allowed(absl::Duration predicted) const;
  Snapshot Read() const;
  void Arm(Phase phase, uint64_t step, absl::Duration allowed, const char* name = "");
  void Run();
  int64_t Now() const;  // ns

  LastWords& last_words_;
  const WatchdogOptions options_;
  // Written in this order by the engine thread: version odd, the rest, version even.
  std::atomic<uint64_t> version_{0};
  std::atomic<Phase> phase_{Phase::kIdle};
  std::atomic<const char*> name_{""};  // of kStart
  std::atomic<uint64_t> step_{0};
  std::atomic<int64_t> since_ns_{0};
  std::atomic<int64_t> allowed_ns_{0};
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace deltaserve
