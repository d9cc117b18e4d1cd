#pragma once

// Sequence: how far a request got.

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "worker/engine/request.h"

namespace deltaserve {

// "Planned" counts what plans were made for, also those whose results are not back yet. Owner:
// Scheduler.
struct Sequence {
  uint64_t ticket = 0;
  uint64_t arrival = 0;  // order of Submit
  absl::Time due;        // decides the order within a priority
  Request request;
  std::vector<int32_t> prefill;  // prompt, then the ids of a resumed answer
  int32_t slot = -1;             // -1 while it waits
  std::vector<int32_t> blocks;
  int64_t planned_prefill = 0;   // of `prefill`
  uint32_t planned_samples = 0;  // resumed ones included
  uint32_t num_generated = 0;    // tokens that came back, resumed ones included
  size_t next_logits = 0;        // index into request.logits_at of the first not planned

  int64_t prefill_left() const { return static_cast<int64_t>(prefill.size()) - planned_prefill; }
  bool prefilling() const { return prefill_left() > 0; }
  bool wants_decode() const { return !prefilling() && planned_samples < request.max_tokens; }
};

}  // namespace deltaserve
