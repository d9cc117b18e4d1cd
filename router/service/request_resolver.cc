#include "router/service/request_resolver.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"
#include "proto/params_check.h"
#include "router/text/stop_matcher.h"

namespace deltaserve {
namespace {

constexpr size_t kMaxRequestIdBytes = 256;

absl::Status CheckStops(const v1::CallOptions& options) {
  const std::vector<std::string> stop_strings(options.stop_strings().begin(),
                                              options.stop_strings().end());
  const auto fault = CheckStopStrings(stop_strings);
  if (!fault.has_value()) return absl::OkStatus();
  return OutOfRange(fault->field, fault->range, fault->value, fault->remedy);
}

absl::Status CheckChoices(const v1::CallOptions& options) {
  const uint32_t n = NumChoices(options);
  if (n < 1 || n > kMaxChoices) {
    return OutOfRange(
        "n", absl::StrCat("in [1, ", kMaxChoices, "]"), absl::StrCat(n),
        n < 1 ? "leave it out for one answer" : "send more requests, each with a seed of its own");
  }
  if (n > 1 && options.has_continue_token_ids()) {
    return OutOfRange("n", "1 with continue_token_ids", absl::StrCat(n),
                      "continue each answer by a call of its own, with its continue_choice");
  }
  const uint32_t choice = options.continue_choice();
  if (choice >= kMaxChoices) {
    return OutOfRange("continue_choice", absl::StrCat("in [0, ", kMaxChoices, ")"),
                      absl::StrCat(choice), "send the number of the choice that is continued");
  }
  if (choice > 0 && !options.has_continue_token_ids()) {
    return InvalidField("continue_choice", absl::StrCat(choice),
                        "there are no continue_token_ids, so nothing is continued",
                        "send them or leave it out");
  }
  return absl::OkStatus();
}

// What CheckChoices cannot know: the temperature where a default fills it, and the world.
absl::Status CheckChoices(const v1::TokenRequest& request, const v1::Capacity& world, uint32_t n) {
  if (n == 1) return absl::OkStatus();
  if (request.sampling().temperature() == 0) {
    return OutOfRange("n", "1 where sampling.temperature is 0", absl::StrCat(n),
                      "all answers would be the same: raise sampling.temperature or leave n out");
  }
  const uint64_t places = uint64_t{world.slots()} + world.max_queue();
  if (n > places) {
    return OutOfRange("n",
                      absl::StrCat("at most ", places, ", the ", world.slots(), " slots and ",
                                   world.max_queue(), " queue places of the world"),
                      absl::StrCat(n), "ask for fewer answers at a time");
  }
  // One prompt may wait alone however long it is.
  const auto tokens = std::max<uint64_t>(static_cast<uint64_t>(request.prompt_ids_size()), 1);
  const uint64_t waiting = std::max<uint64_t>(world.max_queue_tokens() / tokens, 1);
  if (n > world.slots() + waiting) {
    return OutOfRange(
        "n",
        absl::StrCat("at most ", world.slots() + waiting, " for a prompt of ", tokens,
                     " tokens: the world has ", world.slots(), " slots and its queue holds ",
                     world.max_queue_tokens(), " tokens"),
        absl::StrCat(n), "ask for fewer answers at a time");
  }
  return absl::OkStatus();
}

// Absent fields: the model's generation_config, then neutral values.
void FillSampling(v1::SamplingParams* sampling, const GenerationDefaults& defaults, uint64_t seed) {
  if (!sampling->has_temperature()) sampling->set_temperature(defaults.temperature.value_or(1));
  if (!sampling->has_top_p()) sampling->set_top_p(defaults.top_p.value_or(1));
  if (!sampling->has_top_k()) sampling->set_top_k(defaults.top_k.value_or(0));
  if (!sampling->has_min_p()) sampling->set_min_p(defaults.min_p.value_or(0));
  if (!sampling->has_repetition_penalty()) {
    sampling->set_repetition_penalty(defaults.repetition_penalty.value_or(1));
  }
  if (!sampling->has_presence_penalty()) sampling->set_presence_penalty(0);
  if (!sampling->has_frequency_penalty()) sampling->set_frequency_penalty(0);
  if (!sampling->has_seed()) sampling->set_seed(seed);
}

absl::Status TooLong(uint64_t prompt, uint64_t max_tokens, uint64_t context) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_CONTEXT_TOO_LONG);
  detail.set_field(prompt >= context ? "prompt" : "stop.max_tokens");
  detail.set_value(absl::StrCat(prompt >= context ? prompt : max_tokens));
  std::string message;
  if (prompt >= context) {
    detail.set_remedy(absl::StrCat("shorten the prompt to fewer than ", context, " tokens"));
    message = absl::StrCat("prompt has ", prompt, " tokens, and the context holds ", context,
                           " with the answer; ", detail.remedy());
  } else {
    detail.set_remedy(
        absl::StrCat("lower stop.max_tokens to ", context - prompt, " or shorten the prompt"));
    message = absl::StrCat("prompt has ", prompt, " tokens and stop.max_tokens is ", max_tokens,
                           ", together ", prompt + max_tokens, ", and the context holds ", context,
                           "; ", detail.remedy());
  }
  return MakeError(std::move(detail), message);
}

absl::StatusOr<uint32_t> MaxTokens(const v1::CallOptions& options,
                                   uint64_t prompt,
                                   uint64_t context,
                                   uint32_t default_max_tokens) {
  const bool given = options.stop().has_max_tokens();
  if (prompt >= context || (given && prompt + options.stop().max_tokens() > context)) {
    return TooLong(prompt, options.stop().max_tokens(), context);
  }
  const uint64_t max_tokens = given ? options.stop().max_tokens()
                                    : std::min<uint64_t>(context - prompt, default_max_tokens);
  const auto generated = static_cast<uint64_t>(options.continue_token_ids().ids_size());
  if (generated >= max_tokens) {
    return InvalidField(
        "continue_token_ids", absl::StrCat(generated, " ids"),
        absl::StrCat("stop.max_tokens ", max_tokens, " counts them and leaves nothing to generate"),
        "raise stop.max_tokens");
  }
  return static_cast<uint32_t>(max_tokens);
}

std::set<uint32_t> EosUnion(const WorldFacts& facts) {
  std::set<uint32_t> eos(facts.model().eos_token_ids().begin(),
                         facts.model().eos_token_ids().end());
  for (const int32_t id : facts.text->eos_token_ids) eos.insert(static_cast<uint32_t>(id));
  return eos;
}

}  // namespace

absl::Status CheckOptions(const v1::CallOptions& options, int64_t num_tokens) {
  if (options.request_id().size() > kMaxRequestIdBytes) {
    return OutOfRange("request_id", absl::StrCat("at most ", kMaxRequestIdBytes, " bytes"),
                      absl::StrCat(options.request_id().size(), " bytes"),
                      "shorten it or leave it out");
  }
  DS_RETURN_IF_ERROR(CheckSampling(options.sampling(), num_tokens));
  DS_RETURN_IF_ERROR(CheckStop(options.stop(), num_tokens));
  DS_RETURN_IF_ERROR(CheckOutput(options.output(), num_tokens));
  DS_RETURN_IF_ERROR(CheckStops(options));
  DS_RETURN_IF_ERROR(CheckChoices(options));
  DS_RETURN_IF_ERROR(CheckConstraint(options.constraint()));
  DS_RETURN_IF_ERROR(CheckSpeculation(options.speculation()));
  DS_RETURN_IF_ERROR(CheckAdapter(options.adapter()));
  return CheckTokenIds(options.continue_token_ids().ids(), "continue_token_ids", num_tokens);
}

absl::StatusOr<v1::TokenRequest> Resolve(const v1::CallOptions& options,
                                         const std::vector<int32_t>& prompt,
                                         const WorldFacts& facts,
                                         const ResolverDefaults& defaults) {
  const v1::ServedModel& model = facts.model();
  v1::TokenRequest request;
  request.set_request_id(options.request_id().empty() ? defaults.request_id : options.request_id());
  request.set_model(model.id());
  request.set_expect_weights_fingerprint(model.weights_fingerprint());
  request.mutable_prompt_ids()->Add(prompt.begin(), prompt.end());
  *request.mutable_generated_ids() = options.continue_token_ids().ids();
  request.set_sample_index(options.continue_choice());

  *request.mutable_sampling() = options.sampling();
  FillSampling(request.mutable_sampling(), facts.text->defaults, defaults.seed);
  if (absl::Status status = CheckSampling(request.sampling(), model.num_tokens()); !status.ok()) {
    // The client's own values have passed, so this one is the model's default.
    v1::ErrorDetail detail = DetailOf(status);
    return MakeError(std::move(detail), absl::StrCat(std::string(status.message()),
                                                     " (the value is the default of the model's "
                                                     "generation_config.json)"));
  }
  if (request.generated_ids_size() > 0 && !options.sampling().has_seed() &&
      request.sampling().temperature() != 0) {
    return InvalidField("sampling.seed", "absent", "a continuation needs the seed it began with",
                        "send the seed that Started told");
  }
  DS_RETURN_IF_ERROR(CheckChoices(request, facts.description.capacity(), NumChoices(options)));

  *request.mutable_stop() = options.stop();
  DS_ASSIGN_OR_RETURN(const uint32_t max_tokens,
                      MaxTokens(options, prompt.size(), model.max_context(), defaults.max_tokens));
  request.mutable_stop()->set_max_tokens(max_tokens);
  request.mutable_stop()->set_min_tokens(options.stop().min_tokens());
  request.mutable_stop()->set_ignore_eos(options.stop().ignore_eos());
  const std::set<uint32_t> stop_ids(options.stop().stop_token_ids().begin(),
                                    options.stop().stop_token_ids().end());
  request.mutable_stop()->mutable_stop_token_ids()->Assign(stop_ids.begin(), stop_ids.end());
  for (const uint32_t id : EosUnion(facts)) request.add_eos_token_ids(id);

  *request.mutable_output() = options.output();
  request.set_priority(options.priority());
  request.set_cache_salt(options.cache_salt());
  return request;
}

absl::StatusOr<std::vector<int32_t>> ReadTokens(const v1::TokenIds& tokens,
                                                const std::string& field,
                                                int64_t num_tokens) {
  DS_RETURN_IF_ERROR(CheckTokenIds(tokens.ids(), field, num_tokens));
  return std::vector<int32_t>(tokens.ids().begin(), tokens.ids().end());
}

}  // namespace deltaserve
