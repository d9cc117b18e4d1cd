#pragma once

// Engine: the loop of rank 0. Turns requests into a stream of step plans, runs them with every
// rank, and sends tokens to the requests' sinks.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/engine/request.h"

namespace deltaserve {

// What a world can hold, fixed at start.
struct EngineCapacity {
  int64_t kv_blocks = 0;
  int64_t slots = 0;
  int64_t max_queue = 0;
  int64_t max_queue_tokens = 0;
  int64_t max_context = 0;  // tokens of prompt and answer together
  int64_t vocab_rows = 0;
  int64_t num_tokens = 0;  // ids at or above have no token
  uint64_t kv_bytes_per_token = 0;
  uint64_t state_bytes_per_slot = 0;
};

// A snapshot for Watch, health and metrics; cheap, any thread.
struct EngineLoad {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint64_t waiting_tokens = 0;
  uint32_t kv_blocks_used = 0;
  uint32_t slots_used = 0;
  double decode_tokens_per_s = 0;
  double prefill_tokens_per_s = 0;
  uint64_t requests_seen = 0;
  absl::Duration last_step_age;  // zero where there is no work
};

// Submit, Cancel, Expire, Abort, load, BeginDrain: any thread. Run: the engine thread, once.
class EngineHandle {
 public:
  virtual ~EngineHandle() = default;

  virtual const EngineCapacity& capacity() const = 0;

  // Validates ranges and capacity (INVALID_FIELD, CONTEXT_TOO_LONG, UNSUPPORTED, QUEUE_FULL with
  // retry_after, DEADLINE, DRAINING; all as proto/error.h makes them) and queues. On an error the
  // sink is not called. The result is a ticket for Cancel. `sink` is released once it has had
  // OnEnded or OnError; a deadline that cannot be met is told there.
  virtual absl::StatusOr<uint64_t> Submit(Request request, std::shared_ptr<RequestSink> sink) = 0;

  // The stream of this request is gone: frees all that it holds; OnEnded(kCancelled) follows.
  // Idempotent.
  virtual void Cancel(uint64_t ticket) = 0;

  // The same where its deadline is what ended the stream; OnError(DEADLINE) follows.
  virtual void Expire(uint64_t ticket) = 0;

  // Ends the requests of these ids with FinishReason::kCancelled; returns the ids found.
  virtual std::vector<std::string> Abort(const std::vector<std::string>& ids) = 0;

  virtual EngineLoad load() const = 0;

  // Refuses new requests with DRAINING from now on; what runs goes on until `deadline`, then (or at
  // once with hand_over) ends with a retryable DRAINING error. Run() returns when nothing is left.
  virtual void BeginDrain(absl::Time deadline, bool hand_over) = 0;
  virtual bool draining() const = 0;
};

}  // namespace deltaserve
