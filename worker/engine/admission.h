#pragma once

// Admission: who may wait and who cannot be served in time: the bounds of the queue, forecasts from
// measured speed, and the errors of those who are refused. Pure host logic; time is an argument.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/engine/step_budget.h"

namespace deltaserve {

// What waits, against its bounds, between two plans: whoever comes while nobody waits, and finds a
// free slot and its KV blocks, takes them at the next plan and does not count. A value; owner:
// Engine, under its lock.
class QueueRoom {
 public:
  struct Bounds {
    int64_t requests = 0;
    int64_t tokens = 0;  // of prompts and resumed answers; one request alone may have more
  };
  // Of one request: those tokens, and the KV blocks that it needs for life.
  struct Need {
    int64_t tokens = 0;
    int64_t blocks = 0;
  };
  enum class Full { kNo, kRequests, kTokens };

  explicit QueueRoom(const Bounds& bounds) : bounds_(bounds) {}

  // After a plan: what still waits, and what is free.
  void Reset(int64_t requests, int64_t tokens, int64_t free_slots, int64_t free_blocks);

  // Which bound keeps a request out.
  Full FullFor(const Need& need) const;
  void Add(const Need& need);

  // QUEUE_FULL for a request that FullFor keeps out, naming the bound; `retry_after` goes along as
  // whole seconds from 1 to 60.
  absl::Status Refusal(const Need& need, absl::Duration retry_after) const;

 private:
  // Nobody overtakes who waits, so what is free is then nobody's.
  bool IsTakenAtOnce(const Need& need) const {
    return requests_ == 0 && free_slots_ > 0 && need.blocks <= free_blocks_;
  }

  const Bounds bounds_;
  int64_t requests_ = 0;
  int64_t tokens_ = 0;
  int64_t free_slots_ = 0;
  int64_t free_blocks_ = 0;
};

// Prompt tokens left of those that a request may have to wait for.
struct Ahead {
  std::vector<int64_t> earlier = {};  // of what runs or waits and is planned before it
  std::vector<int64_t> later = {};    // of what runs or waits before it and may be planned after it
};

// Of those, the prompt tokens that are sure to be run before the last of `own` prompt tokens:
// chunks of 64 go to earlier ones first, and whoever holds a slot that the request needs must end.
int64_t TokensAhead(int64_t own, const Ahead& ahead, int64_t slots);

// The least time in which `prompt_tokens` and then all but the first of `new_tokens` can be run;
// zero where the speed that it takes is not known.
absl::Duration LeastTime(int64_t prompt_tokens, int64_t new_tokens, const Speed& speed);

// What a running sequence still needs, and holds.
struct Remaining {
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;  // at most
  int64_t blocks = 0;
};

// When a slot and `blocks` are free, if all go on to their last token; zero where they are free.
absl::Duration TimeToRoom(const std::vector<Remaining>& running,
                          int64_t free_slots,
                          int64_t free_blocks,
                          int64_t blocks,
                          const Speed& speed);

// DEADLINE, for a request whose deadline had passed when it came, and for one that comes `left`
// before it and needs `least`: `own` prompt tokens after `ahead` of others.
absl::Status DeadlineHadPassed(const std::string& request_id);
absl::Status DeadlineTooSoon(const std::string& request_id,
                             absl::Duration left,
                             absl::Duration least,
                             int64_t own,
                             int64_t ahead);

}  // namespace deltaserve
