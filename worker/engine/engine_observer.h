#pragma once

// EngineObserver: what the engine of rank 0 tells of its steps and requests while they run; metrics
// are made of it.

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "deltaserve/v1/params.pb.h"
#include "worker/engine/request.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/step_timer.h"

namespace deltaserve {

// A step that ran rows and whose results are committed.
struct StepRecord {
  int64_t prompt_tokens = 0;      // prefilled; of a resumed request its earlier answer too
  int64_t generated_tokens = 0;   // that requests got
  absl::Duration host_time = {};  // see StepTimer
  absl::Duration run_time = {};
};

// One request from Submit to its end, however it ends.
struct RequestRecord {
  uint32_t prompt_tokens = 0;
  uint32_t max_tokens = 0;
  uint32_t generated_tokens = 0;            // by this world, so without those that a resume brings
  SteadyTime submitted = {};                // Submit took it
  std::optional<SteadyTime> admitted = {};  // a plan opens its slot; that plan has not run yet
  std::optional<SteadyTime> first_token = {};  // the step that made it is committed
  std::optional<SteadyTime> last_token = {};   // that came; the first one until there is a second
  SteadyTime ended = {};
  std::variant<FinishReason, v1::ErrorCode> end = {};
};

// Told before a request's sink is, so whoever hears of a result finds it observed. OnRefused: any
// thread. All else: the engine thread. Must not block or call the engine. Outlives the engine.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;

  // A request was refused; nothing else is told of it.
  virtual void OnRefused(v1::ErrorCode code) = 0;
  virtual void OnStep(const StepRecord& step) = 0;
  // A step gave a request its first token, or one more.
  virtual void OnFirstToken(absl::Duration since_submit) = 0;
  virtual void OnNextToken(absl::Duration since_last) = 0;
  virtual void OnEnd(const RequestRecord& request) = 0;
};

// The record of a request that was just taken.
RequestRecord StartRecord(const Request& request, SteadyTime now);

// Brings a request's record up to date with its next event and tells `observer`.
void Observe(const SchedulerEvent& event,
             SteadyTime now,
             RequestRecord* record,
             EngineObserver& observer);

// Tokens generated in `events`.
int64_t NumTokens(const std::vector<SchedulerEvent>& events);

}  // namespace deltaserve
