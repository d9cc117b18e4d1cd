#pragma once

// Request: what was asked of a world, in token ids, and how its results come back.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/engine/logit_rules.h"

namespace deltaserve {

// Resolved by the router: nothing is absent. Neutral values: temperature 1, top_p 1, top_k 0, min_p
// 0.
struct SamplingSettings {
  float temperature = 1;  // 0 = greedy
  float top_p = 1;
  int32_t top_k = 0;  // 0 and -1 = off
  float min_p = 0;
  uint64_t seed = 0;
};

// A thinking budget. Where none of watch_ids is among the first after_tokens generated tokens, the
// tokens after those are force_ids, whatever the model would choose; then it chooses again. Depends
// on the tokens alone, so resumed ones count.
struct ForcedExit {
  std::vector<int32_t> watch_ids = {};
  uint32_t after_tokens = 0;
  std::vector<int32_t> force_ids = {};
  bool operator==(const ForcedExit&) const = default;

  bool Watches(int32_t id) const {
    return std::find(watch_ids.begin(), watch_ids.end(), id) != watch_ids.end();
  }
  // The token that must have `index`, or -1. `seen`: one of watch_ids is among the first
  // after_tokens.
  int32_t IdAt(uint32_t index, bool seen) const {
    if (seen || index < after_tokens || index - after_tokens >= force_ids.size()) return -1;
    return force_ids[index - after_tokens];
  }
};

struct Request {
  std::string id;
  std::vector<int32_t> prompt;
  std::vector<int32_t> generated;  // on resume: counted, not sent again
  SamplingSettings sampling;
  LogitRules rules;
  uint32_t sample_index = 0;
  uint32_t max_tokens = 0;  // generated ones included
  std::vector<int32_t> stop_token_ids;
  std::vector<int32_t> eos_token_ids;
  bool ignore_eos = false;
  std::optional<ForcedExit> forced_exit;
  std::optional<uint32_t> logprobs;  // alternatives a token, 0..20; absent = none
  // Distinct ids whose log-probabilities come with every generated token; needs logprobs.
  std::vector<int32_t> logprob_ids = {};
  // Alternatives of each token of the prompt but the first, 0..20; absent = no scores of these.
  std::optional<uint32_t> prompt_logprobs;
  // Positions of the prompt whose raw logits are wanted (offline tool only; rank 0 gets whole
  // rows).
  std::vector<int64_t> logits_at;
  int32_t priority = 0;                          // larger = sooner
  absl::Time deadline = absl::InfiniteFuture();  // nearer = sooner, within a priority
};

struct TokenLogProb {
  int32_t id = 0;
  float logprob = 0;
  int32_t rank = 0;  // 1 = most likely
  // Most likely first; then those of Request::logprob_ids that are not among them, in their order.
  std::vector<std::pair<int32_t, float>> top = {};
};

enum class FinishReason { kStop, kLength, kCancelled };

struct Ended {
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> eos_token_id = {};  // what matched, for kStop
  std::optional<int32_t> stop_token_id = {};
  uint32_t prompt_tokens = 0;
  uint32_t completion_tokens = 0;
};

// Receives one request's results, in order: OnAdmitted, then any of OnLogits and OnPromptScores,
// then any of OnTokens, then exactly one of OnEnded and OnError. Called on the engine thread: must
// not block and must not call the engine.
class RequestSink {
 public:
  virtual ~RequestSink() = default;
  virtual void OnAdmitted() = 0;
  // Raw logits (all rows of the vocabulary) at a position of the prompt, ascending.
  virtual void OnLogits(int64_t position, std::span<const float> logits) = 0;
  // Of the prompt's tokens from `first_position`, all that one step scored; the first of all pages
  // begins at 1, each where the one before ended, and the last ends with the prompt.
  virtual void OnPromptScores(int64_t first_position, std::span<const TokenLogProb> scores) = 0;
  // All that one step made; first_index counts generated tokens from 0, resumed ones included.
  // logprobs is empty or as long as ids. The EOS or stop token that ends a request is among the
  // ids.
  virtual void OnTokens(uint32_t first_index,
                        std::span<const int32_t> ids,
                        std::span<const TokenLogProb> logprobs) = 0;
  virtual void OnEnded(const Ended& ended) = 0;
  // With an ErrorDetail payload (proto/error.h).
  virtual void OnError(const absl::Status& status) = 0;
};

}  // namespace deltaserve
