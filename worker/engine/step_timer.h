#pragma once

// StepTimer: which part of a step's time the model takes, and which the host around it.

#include <chrono>

#include "absl/time/time.h"

namespace deltaserve {

// Never set back, as the clock of the day may be.
using SteadyTime = std::chrono::steady_clock::time_point;
inline SteadyTime SteadyNow() { return std::chrono::steady_clock::now(); }

// Engine thread of rank 0. Pure: times are arguments.
class StepTimer {
 public:
  // There was nothing to run, and now there may be.
  void WorkBegins(SteadyTime now) { host_since_ = now; }
  void RunBegins(SteadyTime now) {
    host_time_ = now - host_since_;
    host_since_ = now;
  }
  void RunEnds(SteadyTime now) {
    run_time_ = now - host_since_;
    host_since_ = now;
  }

  // Of the last step. host: from the results of the step before it, or from the beginning of work,
  // until the executor began: results taken and sent, the plan made, serialised and broadcast. run:
  // within the executor.
  absl::Duration host_time() const { return absl::FromChrono(host_time_); }
  absl::Duration run_time() const { return absl::FromChrono(run_time_); }

 private:
  SteadyTime host_since_;
  std::chrono::nanoseconds host_time_{0};
  std::chrono::nanoseconds run_time_{0};
};

}  // namespace deltaserve
