#include "proto/params_check.h"

#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

constexpr int kMaxLogprobTokenIds = 128;
constexpr float kMaxLogitBias = 100;
constexpr int kMaxBannedSequences = 4096;
constexpr int kMaxBannedIds = 64;

absl::Status Range(const std::string& field,
                   float value,
                   bool inside,
                   const std::string& range,
                   const std::string& remedy) {
  if (inside && std::isfinite(value)) return absl::OkStatus();
  return OutOfRange(field, range, absl::StrCat(value), remedy);
}

absl::Status CheckPenalties(const v1::SamplingParams& sampling) {
  const float presence = sampling.presence_penalty();
  const float frequency = sampling.frequency_penalty();
  const float repetition = sampling.has_repetition_penalty() ? sampling.repetition_penalty() : 1;
  const absl::Status checks[] = {
      Range("sampling.presence_penalty", presence, presence >= -2 && presence <= 2, "in [-2, 2]",
            "use 0 for none"),
      Range("sampling.frequency_penalty", frequency, frequency >= -2 && frequency <= 2,
            "in [-2, 2]", "use 0 for none"),
      Range("sampling.repetition_penalty", repetition, repetition > 0, "finite and above 0",
            "use 1 for none"),
  };
  for (const absl::Status& status : checks) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckBiases(const v1::SamplingParams& sampling, int64_t num_tokens) {
  std::set<uint32_t> seen;
  for (int i = 0; i < sampling.logit_bias_size(); ++i) {
    const v1::LogitBias& entry = sampling.logit_bias(i);
    const std::string field = absl::StrCat("sampling.logit_bias[", i, "]");
    if (absl::Status status = CheckTokenId(entry.token_id(), field + ".token_id", num_tokens);
        !status.ok()) {
      return status;
    }
    if (!(std::fabs(entry.bias()) <= kMaxLogitBias)) {
      return OutOfRange(field + ".bias", "in [-100, 100]", absl::StrCat(entry.bias()),
                        "100 already forces a token and -100 forbids it");
    }
    if (!seen.insert(entry.token_id()).second) {
      return OutOfRange(field + ".token_id", "an id that no other entry has",
                        absl::StrCat(entry.token_id()), "add its biases up to one entry");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBanned(const v1::SamplingParams& sampling, int64_t num_tokens) {
  const int count = sampling.banned_sequences_size();
  if (count > kMaxBannedSequences) {
    return OutOfRange("sampling.banned_sequences",
                      absl::StrCat("at most ", kMaxBannedSequences, " sequences"),
                      absl::StrCat(count), "ban fewer");
  }
  for (int i = 0; i < count; ++i) {
    const std::string field = absl::StrCat("sampling.banned_sequences[", i, "]");
    const auto& ids = sampling.banned_sequences(i).ids();
    if (ids.empty() || ids.size() > kMaxBannedIds) {
      return OutOfRange(field, absl::StrCat("1 to ", kMaxBannedIds, " ids"),
                        absl::StrCat(ids.size()),
                        "send the token ids that must not follow each other");
    }
    if (absl::Status status = CheckTokenIds(ids, field, num_tokens); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckTokenLists(const v1::SamplingParams& sampling, int64_t num_tokens) {
  if (absl::Status status = CheckBiases(sampling, num_tokens); !status.ok()) return status;
  if (absl::Status status = CheckBanned(sampling, num_tokens); !status.ok()) return status;
  if (!sampling.has_allowed_token_ids()) return absl::OkStatus();
  const auto& allowed = sampling.allowed_token_ids().ids();
  if (absl::Status status = CheckTokenIds(allowed, "sampling.allowed_token_ids", num_tokens);
      !status.ok()) {
    return status;
  }
  std::set<uint32_t> left(allowed.begin(), allowed.end());
  for (const v1::TokenIds& banned : sampling.banned_sequences()) {
    if (banned.ids_size() == 1) left.erase(banned.ids(0));
  }
  if (!left.empty()) return absl::OkStatus();
  return OutOfRange("sampling.allowed_token_ids", "ids of which some are not banned",
                    absl::StrCat(allowed.size(), " ids"),
                    "name ids that the answer may consist of, or leave it out to allow all");
}

}  // namespace

absl::Status OutOfRange(const std::string& field,
                        const std::string& range,
                        const std::string& value,
                        const std::string& remedy) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_INVALID_FIELD);
  detail.set_field(field);
  detail.set_value(value);
  detail.set_remedy(remedy);
  return MakeError(std::move(detail),
                   absl::StrCat(field, " must be ", range, ", got ", value, "; ", remedy));
}

absl::Status CheckSampling(const v1::SamplingParams& sampling, int64_t num_tokens) {
  const float temperature = sampling.temperature();
  const float top_p = sampling.has_top_p() ? sampling.top_p() : 1;
  const float min_p = sampling.min_p();
  const absl::Status checks[] = {
      Range("sampling.temperature", temperature, temperature >= 0 && temperature <= 2, "in [0, 2]",
            "use 0 for greedy decoding and 1 for the model's own distribution"),
      Range("sampling.top_p", top_p, top_p > 0 && top_p <= 1, "in (0, 1]", "use 1 to turn it off"),
      sampling.top_k() >= -1
          ? absl::OkStatus()
          : OutOfRange("sampling.top_k", "-1 or more", absl::StrCat(sampling.top_k()),
                       "use 0 or -1 to turn it off"),
      Range("sampling.min_p", min_p, min_p >= 0 && min_p <= 1, "in [0, 1]", "use 0 to turn it off"),
      CheckPenalties(sampling),
      CheckTokenLists(sampling, num_tokens),
  };
  for (const absl::Status& status : checks) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckStop(const v1::StopParams& stop, int64_t num_tokens) {
  if (stop.has_max_tokens() && stop.max_tokens() == 0) {
    return OutOfRange("stop.max_tokens", "1 or more", "0",
                      "leave it out to take what room there is");
  }
  if (stop.has_max_tokens() && stop.min_tokens() > stop.max_tokens()) {
    return OutOfRange("stop.min_tokens", absl::StrCat("at most max_tokens ", stop.max_tokens()),
                      absl::StrCat(stop.min_tokens()), "lower it or raise stop.max_tokens");
  }
  if (absl::Status ids = CheckTokenIds(stop.stop_token_ids(), "stop.stop_token_ids", num_tokens);
      !ids.ok()) {
    return ids;
  }
  return absl::OkStatus();
}

absl::Status CheckOutput(const v1::OutputParams& output, int64_t num_tokens) {
  if (output.logprobs() > kMaxLogprobs) {
    return OutOfRange("output.logprobs", absl::StrCat("in [0, ", kMaxLogprobs, "]"),
                      absl::StrCat(output.logprobs()), "ask for fewer alternatives");
  }
  if (output.prompt_logprobs() > kMaxLogprobs) {
    return OutOfRange("output.prompt_logprobs", absl::StrCat("in [0, ", kMaxLogprobs, "]"),
                      absl::StrCat(output.prompt_logprobs()), "ask for fewer alternatives");
  }
  if (output.logprob_token_ids_size() > kMaxLogprobTokenIds) {
    return OutOfRange("output.logprob_token_ids",
                      absl::StrCat("at most ", kMaxLogprobTokenIds, " ids"),
                      absl::StrCat(output.logprob_token_ids_size(), " ids"), "ask for fewer");
  }
  return CheckTokenIds(output.logprob_token_ids(), "output.logprob_token_ids", num_tokens);
}

absl::Status CheckConstraint(const v1::Constraint& constraint) {
  const char* grammar = nullptr;
  switch (constraint.grammar_case()) {
    case v1::Constraint::kJsonSchema:
      grammar = "constraint.json_schema";
      break;
    case v1::Constraint::kRegex:
      grammar = "constraint.regex";
      break;
    case v1::Constraint::kEbnf:
      grammar = "constraint.ebnf";
      break;
    case v1::Constraint::kJsonObject:
      grammar = "constraint.json_object";
      break;
    case v1::Constraint::kChoices:
      grammar = "constraint.choices";
      break;
    case v1::Constraint::kStructuralTag:
      grammar = "constraint.structural_tag";
      break;
    case v1::Constraint::GRAMMAR_NOT_SET:
      if (!constraint.has_start_after_token_id()) return absl::OkStatus();
      grammar = "constraint.start_after_token_id";
      break;
  }
  return UnsupportedField(grammar, "set",
                          "constrained decoding is not part of this version; leave constraint out");
}

absl::Status CheckSpeculation(const v1::Speculation& speculation) {
  if (speculation.max_draft_tokens() == 0) return absl::OkStatus();
  return UnsupportedField("speculation.max_draft_tokens",
                          absl::StrCat(speculation.max_draft_tokens()),
                          "speculation is not part of this version; leave it out or set it to 0");
}

absl::Status CheckAdapter(const std::string& adapter) {
  if (adapter.empty()) return absl::OkStatus();
  return UnsupportedField("adapter", adapter,
                          "adapters are not part of this version; leave it out");
}

absl::Status CheckTokenId(uint32_t id, const std::string& field, int64_t num_tokens) {
  if (id < num_tokens) return absl::OkStatus();
  return OutOfRange(field, absl::StrCat("below ", num_tokens), absl::StrCat(id),
                    "name an id of the model's vocabulary");
}

absl::Status CheckTokenIds(const google::protobuf::RepeatedField<uint32_t>& ids,
                           const std::string& field,
                           int64_t num_tokens) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < num_tokens) continue;  // no text is made for the good ones
    return CheckTokenId(ids[i], absl::StrCat(field, "[", i, "]"), num_tokens);
  }
  return absl::OkStatus();
}

}  // namespace deltaserve
