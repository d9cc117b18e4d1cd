#pragma once

// What is refused of the parameters that both faces share (params.proto): first what is out of
// range (INVALID_FIELD), then what this version does not do (UNSUPPORTED), each by its field's
// name. An absent field passes, and so does the neutral value of a feature that is not there.
// Nothing is clamped. Pure; any thread.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "deltaserve/v1/params.pb.h"
#include "google/protobuf/repeated_field.h"

namespace deltaserve {

// Most alternatives of a token that OutputParams.logprobs and prompt_logprobs may ask for.
inline constexpr uint32_t kMaxLogprobs = 20;

// "<field> must be <range>, got <value>; <remedy>", with INVALID_FIELD.
absl::Status OutOfRange(const std::string& field,
                        const std::string& range,
                        const std::string& value,
                        const std::string& remedy);

// Fields are named from "sampling.", "stop.", "output.". `num_tokens`: ids at or above have no
// token.
absl::Status CheckSampling(const v1::SamplingParams& sampling, int64_t num_tokens);
absl::Status CheckStop(const v1::StopParams& stop, int64_t num_tokens);
absl::Status CheckOutput(const v1::OutputParams& output, int64_t num_tokens);

// Features of whole messages.
absl::Status CheckConstraint(const v1::Constraint& constraint);
absl::Status CheckSpeculation(const v1::Speculation& speculation);
absl::Status CheckAdapter(const std::string& adapter);

// `id`, the value of `field`, has a token.
absl::Status CheckTokenId(uint32_t id, const std::string& field, int64_t num_tokens);

// Every id has a token; `field` is the list's name, and the refusal names the index.
absl::Status CheckTokenIds(const google::protobuf::RepeatedField<uint32_t>& ids,
                           const std::string& field,
                           int64_t num_tokens);

}  // namespace deltaserve
