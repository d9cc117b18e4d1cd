#pragma once

// The plans of a warm-up: steps of every largest shape, run before the first request.

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
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

// How long a step of warm-up may run before it is taken to hang. A value of the engine thread.
class WarmUpPace {
 public:
  // `slowest_row`: what a row of the first step may take, of whose device nothing is known.
  explicit WarmUpPace(absl::Duration slowest_row) : row_(slowest_row) {}

  // Ten times what the slowest step so far lets expect of `rows`; at least what a phase of NCCL's
  // start may take.
  absl::Duration Allowed(int64_t rows) const;
  void Record(int64_t rows, absl::Duration took);

 private:
  absl::Duration row_;   // allowed of each
  absl::Duration step_;  // allowed of any
  bool measured_ = false;
};

}  // namespace deltaserve
