#pragma once

// CheckRequest: what a world refuses before it queues a request.

#include "absl/status/status.h"
#include "worker/engine/engine.h"
#include "worker/engine/request.h"

namespace deltaserve {

// OK, or an error of proto/error.h that names field, value and remedy: INVALID_FIELD for ranges and
// ids, CONTEXT_TOO_LONG for what this world can never hold, UNSUPPORTED for logits_at where
// `prompt_logits` is false. Nothing is clamped. Pure; any thread.
absl::Status CheckRequest(const Request& request,
                          const EngineCapacity& capacity,
                          bool prompt_logits);

// Parts of that, INVALID_FIELD all.
absl::Status CheckSampling(const SamplingSettings& sampling);
absl::Status CheckRules(const LogitRules& rules, int64_t num_tokens);
absl::Status CheckForcedExit(const ForcedExit& exit, int64_t num_tokens);

// KV blocks that `request` holds for its whole life.
int64_t BlocksFor(const Request& request);

}  // namespace deltaserve
