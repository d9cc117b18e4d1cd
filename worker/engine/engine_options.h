#pragma once

// EngineOptions: what flags say about batching and memory. Equal on every rank.

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/quantization.h"

namespace deltaserve {

// The most of the flags of the same names.
inline constexpr int64_t kMaxSlots = 4096;
inline constexpr int64_t kMaxTokenBudget = int64_t{1} << 20;

struct EngineOptions {
  int64_t slots = 32;                    // sequences that run at once
  int64_t kv_memory = int64_t{1} << 30;  // bytes of keys and values on each rank
  int64_t token_budget = 0;              // prompt tokens a step; 0: from measured speed
  int64_t max_token_budget = 512;        // the most that measured speed may give
  int64_t max_queue = 256;               // requests that wait for a slot or for blocks
  int64_t max_queue_tokens = 1 << 18;    // prompt and resumed tokens that wait
  int64_t max_context = 0;               // tokens of prompt and answer; 0: as the model says
  int64_t num_tokens = 0;                // ids at or above have no token; 0: every row has one
  Quantization quantization = Quantization::kNone;  // of weights
  int run_ahead = 0;           // steps launched before the result of the one before is known: 0, 1
  bool prompt_logits = false;  // whether Request::logits_at may be used (offline tool)
  absl::Duration step_target = absl::Milliseconds(500);  // of a step whose budget is measured
  absl::Duration idle_after = absl::Milliseconds(2);     // without work before ranks go to sleep

  // The most rows of a step.
  int64_t max_rows() const { return slots + (token_budget > 0 ? token_budget : max_token_budget); }

  // INVALID_ARGUMENT naming the flag (the field, where no flag sets it), its value and what would
  // do.
  absl::Status Validate() const;
};

// The most rows of prompts whose logits rank 0 gets in one step, besides those that are sampled: as
// many as the shortest chunk that is cut from a prompt, so that a prompt always goes on.
inline constexpr int64_t kMaxLogitRows = 64;
// The most ids that a request may have scored with every token.
inline constexpr int64_t kMaxLogProbIds = 128;

}  // namespace deltaserve
