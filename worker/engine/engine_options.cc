#include "worker/engine/engine_options.h"

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/ops.h"

namespace deltaserve {
namespace {

absl::Status Refuse(const char* flag, int64_t value, const std::string& problem_and_remedy) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, ": ", problem_and_remedy));
}

}  // namespace

absl::Status EngineOptions::Validate() const {
  if (slots < 1 || slots > kMaxSlots) {
    return Refuse("--slots", slots, absl::StrCat("use 1 to ", kMaxSlots));
  }
  if (kv_memory < 1) return Refuse("--kv-memory", kv_memory, "use a positive number of bytes");
  if (token_budget != 0 && (token_budget < kBlockTokens || token_budget > kMaxTokenBudget)) {
    return Refuse("--token-budget", token_budget,
                  absl::StrCat("prompts are cut at multiples of ", kBlockTokens, " tokens; use ",
                               kBlockTokens, " to ", kMaxTokenBudget, ", or 0 for measured speed"));
  }
  if (max_token_budget < kBlockTokens || max_token_budget > kMaxTokenBudget ||
      max_token_budget % kBlockTokens != 0) {
    return Refuse("max_token_budget", max_token_budget,
                  absl::StrCat("use a multiple of ", kBlockTokens, " up to ", kMaxTokenBudget));
  }
  if (run_ahead < 0 || run_ahead > 1) return Refuse("--run-ahead", run_ahead, "use 0 or 1");
  if (max_queue < 1) return Refuse("--max-queue", max_queue, "use 1 or more");
  if (max_queue_tokens < 1) {
    return Refuse("--max-queue-tokens", max_queue_tokens, "use 1 or more");
  }
  if (max_context < 0 || max_context > std::numeric_limits<int32_t>::max()) {
    return Refuse("--max-context", max_context, "use 1 or more, or 0 for what the model says");
  }
  if (num_tokens < 0) {
    return Refuse("num_tokens", num_tokens, "use the tokenizer's number of tokens, or 0 for all");
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
