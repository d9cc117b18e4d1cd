#include "worker/engine/request_check.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/ops.h"
#include "proto/error.h"
#include "proto/params_check.h"
#include "worker/cache/block_pool.h"
#include "worker/engine/engine_options.h"

namespace deltaserve {
namespace {

constexpr size_t kMaxForcedIds = 1024;
constexpr float kMaxTemperature = 2;
// Below it logits divided by it may leave the range of f32.
constexpr float kMinTemperature = 1e-5f;

absl::Status CheckIds(const std::vector<int32_t>& ids, const char* field, int64_t num_tokens) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < num_tokens) continue;
    return InvalidField(absl::StrCat(field, "[", i, "]"), absl::StrCat(ids[i]),
                        "the model has no such token",
                        absl::StrCat("use ids from 0 to ", num_tokens - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckOutput(const Request& request, int64_t num_tokens) {
  if (request.logprobs.value_or(0) > kMaxLogprobs) {
    return InvalidField("output.logprobs", absl::StrCat(*request.logprobs), "out of range",
                        absl::StrCat("use 0 to ", kMaxLogprobs));
  }
  if (request.prompt_logprobs.value_or(0) > kMaxLogprobs) {
    return InvalidField("output.prompt_logprobs", absl::StrCat(*request.prompt_logprobs),
                        "out of range", absl::StrCat("use 0 to ", kMaxLogprobs));
  }
  const std::vector<int32_t>& ids = request.logprob_ids;
  if (ids.size() > kMaxLogProbIds || (!ids.empty() && !request.logprobs.has_value())) {
    return InvalidField("output.logprob_token_ids", absl::StrCat(ids.size(), " ids"),
                        "too many, or given without logprobs",
                        absl::StrCat("send at most ", kMaxLogProbIds, ", with logprobs"));
  }
  return CheckIds(ids, "output.logprob_token_ids", num_tokens);
}

absl::Status CheckLength(const Request& request, const EngineCapacity& capacity) {
  if (request.max_tokens < 1) {
    return InvalidField("stop.max_tokens", "0", "nothing would be generated", "use 1 or more");
  }
  if (request.generated.size() > request.max_tokens) {
    return InvalidField("generated_ids", absl::StrCat(request.generated.size(), " ids"),
                        absl::StrCat("more than stop.max_tokens, which is ", request.max_tokens),
                        "send at most max_tokens generated ids");
  }
  const uint64_t total = uint64_t{request.prompt.size()} + request.max_tokens;
  if (total <= static_cast<uint64_t>(capacity.max_context)) return absl::OkStatus();
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_CONTEXT_TOO_LONG);
  detail.set_field("stop.max_tokens");
  detail.set_value(absl::StrCat(request.max_tokens));
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  detail.set_remedy(
      prompt < capacity.max_context
          ? absl::StrCat("use at most ", capacity.max_context - prompt,
                         " max_tokens with this prompt")
          : absl::StrCat("use a prompt of at most ", capacity.max_context - 1, " tokens"));
  const std::string message = absl::StrCat(
      "the prompt has ", prompt, " tokens and max_tokens is ", request.max_tokens, ": together ",
      total, ", but this world holds ", capacity.max_context, "; ", detail.remedy());
  return MakeError(std::move(detail), message);
}

absl::Status CheckLogits(const Request& request, bool prompt_logits) {
  if (request.logits_at.empty()) return absl::OkStatus();
  if (!prompt_logits) {
    return UnsupportedField("logits_at", absl::StrCat(request.logits_at.size(), " positions"),
                            "this world serves no raw logits; use the offline generate tool");
  }
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  int64_t before = -1;
  for (size_t i = 0; i < request.logits_at.size(); ++i) {
    const int64_t position = request.logits_at[i];
    if (position > before && position < prompt) {
      before = position;
      continue;
    }
    return InvalidField(absl::StrCat("logits_at[", i, "]"), absl::StrCat(position),
                        "not an ascending position of the prompt",
                        absl::StrCat("use ascending, distinct positions from 0 to ", prompt - 1));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckForcedExit(const ForcedExit& exit, int64_t num_tokens) {
  DS_RETURN_IF_ERROR(CheckIds(exit.watch_ids, "forced_exit.watch_token_ids", num_tokens));
  if (exit.force_ids.empty() || exit.force_ids.size() > kMaxForcedIds) {
    return InvalidField("forced_exit.force_token_ids", absl::StrCat(exit.force_ids.size(), " ids"),
                        "out of range", absl::StrCat("send 1 to ", kMaxForcedIds));
  }
  return CheckIds(exit.force_ids, "forced_exit.force_token_ids", num_tokens);
}

absl::Status CheckSampling(const SamplingSettings& sampling) {
  const float temperature = sampling.temperature;
  if (!(temperature == 0 || (temperature >= kMinTemperature && temperature <= kMaxTemperature))) {
    return InvalidField(
        "sampling.temperature", absl::StrCat(temperature), "out of range",
        absl::StrCat("use 0 (greedy) or ", kMinTemperature, " to ", kMaxTemperature));
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return InvalidField("sampling.top_p", absl::StrCat(sampling.top_p), "out of range",
                        "use more than 0 and at most 1 (1 = off)");
  }
  if (sampling.top_k < -1) {
    return InvalidField("sampling.top_k", absl::StrCat(sampling.top_k), "out of range",
                        "use 1 or more, or 0 or -1 for off");
  }
  if (!(sampling.min_p >= 0 && sampling.min_p <= 1)) {
    return InvalidField("sampling.min_p", absl::StrCat(sampling.min_p), "out of range",
                        "use 0 (off) to 1");
  }
  return absl::OkStatus();
}

absl::Status CheckRules(const LogitRules& rules, int64_t num_tokens) {
  std::vector<int32_t> biased;
  for (const auto& [id, bias] : rules.bias) biased.push_back(id);
  DS_RETURN_IF_ERROR(CheckIds(biased, "sampling.logit_bias", num_tokens));
  DS_RETURN_IF_ERROR(CheckIds(rules.allowed, "sampling.allowed_token_ids", num_tokens));
  for (const std::vector<int32_t>& sequence : rules.banned) {
    if (sequence.empty()) {
      return InvalidField("sampling.banned_sequences", "a sequence without ids",
                          "it would ban everything", "leave it out");
    }
    DS_RETURN_IF_ERROR(CheckIds(sequence, "sampling.banned_sequences", num_tokens));
  }
  if (rules.allows_some && rules.allowed.empty()) {
    return InvalidField("sampling.allowed_token_ids", "empty", "no token may be chosen",
                        "name some ids, or leave it out to allow all");
  }
  if (!(rules.repetition_penalty > 0)) {
    return InvalidField("sampling.repetition_penalty", absl::StrCat(rules.repetition_penalty),
                        "out of range", "use a number above 0");
  }
  return CheckIds(rules.ends, "stop.stop_token_ids", num_tokens);
}

absl::Status CheckRequest(const Request& request,
                          const EngineCapacity& capacity,
                          bool prompt_logits) {
  if (request.prompt.empty()) {
    return InvalidField("prompt_ids", "empty", "there is nothing to continue",
                        "send at least one token");
  }
  DS_RETURN_IF_ERROR(CheckIds(request.prompt, "prompt_ids", capacity.num_tokens));
  DS_RETURN_IF_ERROR(CheckIds(request.generated, "generated_ids", capacity.num_tokens));
  DS_RETURN_IF_ERROR(CheckIds(request.stop_token_ids, "stop.stop_token_ids", capacity.num_tokens));
  DS_RETURN_IF_ERROR(CheckSampling(request.sampling));
  DS_RETURN_IF_ERROR(CheckRules(request.rules, capacity.num_tokens));
  DS_RETURN_IF_ERROR(CheckOutput(request, capacity.num_tokens));
  if (request.forced_exit.has_value()) {
    DS_RETURN_IF_ERROR(CheckForcedExit(*request.forced_exit, capacity.num_tokens));
  }
  DS_RETURN_IF_ERROR(CheckLength(request, capacity));
  return CheckLogits(request, prompt_logits);
}

int64_t BlocksFor(const Request& request) {
  const int64_t tokens =
      static_cast<int64_t>(request.prompt.size()) + static_cast<int64_t>(request.max_tokens);
  return NumBlocks(tokens);
}

}  // namespace deltaserve
