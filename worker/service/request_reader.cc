#include "worker/service/request_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/params_check.h"

namespace deltaserve {
namespace {

constexpr size_t kMaxRequestIdBytes = 256;

std::vector<int32_t> ToIds(const google::protobuf::RepeatedField<uint32_t>& ids) {
  std::vector<int32_t> result;
  result.reserve(static_cast<size_t>(ids.size()));
  for (const uint32_t id : ids) result.push_back(static_cast<int32_t>(id));
  return result;
}

absl::Status CheckIdentity(const v1::TokenRequest& message, const WorldInfo& info) {
  if (message.request_id().size() > kMaxRequestIdBytes) {
    return OutOfRange("request_id", absl::StrCat("at most ", kMaxRequestIdBytes, " bytes"),
                      absl::StrCat(message.request_id().size(), " bytes"), "shorten it");
  }
  DS_RETURN_IF_ERROR(CheckModel(message.model(), info));
  const std::string& expected = message.expect_weights_fingerprint();
  if (!expected.empty() && expected != info.weights_fingerprint) {
    return InvalidField("expect_weights_fingerprint", expected,
                        absl::StrCat("this world serves weights ", info.weights_fingerprint),
                        "call Describe again, or send the request to a world of those weights");
  }
  return absl::OkStatus();
}

absl::Status CheckPromptAndStop(const v1::TokenRequest& message, int64_t num_tokens) {
  if (message.prompt_ids().empty()) {
    return OutOfRange("prompt_ids", "1 id or more", "none", "send the prompt's token ids");
  }
  DS_RETURN_IF_ERROR(CheckTokenIds(message.prompt_ids(), "prompt_ids", num_tokens));
  DS_RETURN_IF_ERROR(CheckTokenIds(message.generated_ids(), "generated_ids", num_tokens));
  DS_RETURN_IF_ERROR(CheckTokenIds(message.eos_token_ids(), "eos_token_ids", num_tokens));
  DS_RETURN_IF_ERROR(CheckStop(message.stop(), num_tokens));
  if (!message.stop().has_max_tokens()) {
    return InvalidField("stop.max_tokens", "absent", "a world chooses no length",
                        "send the number of tokens to generate");
  }
  const auto generated = static_cast<uint32_t>(message.generated_ids_size());
  if (generated >= message.stop().max_tokens()) {
    return InvalidField(
        "generated_ids", absl::StrCat(generated, " ids"),
        absl::StrCat("max_tokens ", message.stop().max_tokens(), " leaves nothing to generate"),
        "raise stop.max_tokens above what was generated");
  }
  return absl::OkStatus();
}

absl::Status CheckFeatures(const v1::TokenRequest& message) {
  DS_RETURN_IF_ERROR(CheckConstraint(message.constraint()));
  DS_RETURN_IF_ERROR(CheckSpeculation(message.speculation()));
  DS_RETURN_IF_ERROR(CheckAdapter(message.adapter()));
  return absl::OkStatus();
}

absl::StatusOr<ForcedExit> ReadForcedExit(const v1::ForcedExit& message, int64_t num_tokens) {
  DS_RETURN_IF_ERROR(
      CheckTokenIds(message.watch_token_ids(), "forced_exit.watch_token_ids", num_tokens));
  DS_RETURN_IF_ERROR(
      CheckTokenIds(message.force_token_ids(), "forced_exit.force_token_ids", num_tokens));
  return ForcedExit{.watch_ids = ToIds(message.watch_token_ids()),
                    .after_tokens = message.after_tokens(),
                    .force_ids = ToIds(message.force_token_ids())};
}

absl::StatusOr<SamplingSettings> ReadSampling(const v1::SamplingParams& message,
                                              int64_t num_tokens) {
  DS_RETURN_IF_ERROR(CheckSampling(message, num_tokens));
  SamplingSettings sampling;
  if (message.has_temperature()) sampling.temperature = message.temperature();
  if (message.has_top_p()) sampling.top_p = message.top_p();
  if (message.has_top_k()) sampling.top_k = message.top_k();
  if (message.has_min_p()) sampling.min_p = message.min_p();
  if (!message.has_seed() && sampling.temperature != 0) {
    return InvalidField("sampling.seed", "absent", "a world draws no seeds",
                        "send one, or temperature 0");
  }
  sampling.seed = message.seed();
  return sampling;
}

// Checked by CheckSampling and CheckStop. Biases of 0 and penalties that are neutral are no rules.
LogitRules ReadRules(const v1::TokenRequest& message) {
  const v1::SamplingParams& sampling = message.sampling();
  LogitRules rules;
  rules.presence_penalty = sampling.presence_penalty();
  rules.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_repetition_penalty()) rules.repetition_penalty = sampling.repetition_penalty();
  for (const v1::LogitBias& entry : sampling.logit_bias()) {
    if (entry.bias() != 0) {
      rules.bias.emplace_back(static_cast<int32_t>(entry.token_id()), entry.bias());
    }
  }
  std::sort(rules.bias.begin(), rules.bias.end());
  rules.allows_some = sampling.has_allowed_token_ids();
  rules.allowed = ToIds(sampling.allowed_token_ids().ids());
  for (const v1::TokenIds& banned : sampling.banned_sequences()) {
    rules.banned.push_back(ToIds(banned.ids()));
  }
  rules.min_tokens = message.stop().min_tokens();
  if (rules.min_tokens > 0) {
    rules.ends = ToIds(message.stop().stop_token_ids());
    if (!message.stop().ignore_eos()) {
      for (const uint32_t id : message.eos_token_ids())
        rules.ends.push_back(static_cast<int32_t>(id));
    }
  }
  if (rules.ends.empty()) rules.min_tokens = 0;
  return rules;
}

// Checked by CheckOutput.
void ReadOutput(const v1::OutputParams& output, Request* request) {
  if (output.has_logprobs()) request->logprobs = output.logprobs();
  if (output.has_prompt_logprobs()) request->prompt_logprobs = output.prompt_logprobs();
  std::vector<int32_t>& ids = request->logprob_ids;
  for (const int32_t id : ToIds(output.logprob_token_ids())) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  if (!ids.empty() && !request->logprobs.has_value()) request->logprobs = 0;
}

}  // namespace

absl::Status CheckModel(const std::string& model, const WorldInfo& info) {
  if (model.empty() || model == info.model_id) return absl::OkStatus();
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_MODEL_NOT_FOUND);
  detail.set_field("model");
  detail.set_value(model);
  detail.set_remedy(absl::StrCat("name ", info.model_id, " or leave it empty"));
  const std::string message =
      absl::StrCat("model ", model, " is not served here; ", detail.remedy());
  return MakeError(std::move(detail), message);
}

absl::StatusOr<Request> ReadRequest(const v1::TokenRequest& message,
                                    const WorldInfo& info,
                                    const EngineCapacity& capacity) {
  const int64_t num_tokens = capacity.num_tokens;
  DS_RETURN_IF_ERROR(CheckIdentity(message, info));
  DS_RETURN_IF_ERROR(CheckPromptAndStop(message, num_tokens));
  DS_RETURN_IF_ERROR(CheckOutput(message.output(), num_tokens));
  DS_RETURN_IF_ERROR(CheckFeatures(message));
  Request request;
  DS_ASSIGN_OR_RETURN(request.sampling, ReadSampling(message.sampling(), num_tokens));
  request.rules = ReadRules(message);
  request.id = message.request_id();
  request.prompt = ToIds(message.prompt_ids());
  request.generated = ToIds(message.generated_ids());
  request.sample_index = message.sample_index();
  request.max_tokens = message.stop().max_tokens();
  request.stop_token_ids = ToIds(message.stop().stop_token_ids());
  request.eos_token_ids = ToIds(message.eos_token_ids());
  request.ignore_eos = message.stop().ignore_eos();
  ReadOutput(message.output(), &request);
  if (message.has_forced_exit()) {
    DS_ASSIGN_OR_RETURN(request.forced_exit, ReadForcedExit(message.forced_exit(), num_tokens));
  }
  request.priority = message.priority();
  return request;
}

}  // namespace deltaserve
