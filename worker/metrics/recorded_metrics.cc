#include "worker/metrics/recorded_metrics.h"

#include "kernels/base/check.h"
#include "worker/metrics/world_labels.h"

namespace deltaserve {
namespace {

constexpr double kStepTokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
constexpr double kFirstTokenSeconds[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                         1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
constexpr double kTokenSeconds[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                    .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
constexpr double kRequestSeconds[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                      30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
constexpr double kStepSeconds[] = {.001, .002, .005, .01, .02, .05, .1, .2,
                                   .5,   1,    2,    5,   10,  30,  60};
constexpr double kHostSeconds[] = {1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3,
                                   2e-3, 5e-3, 1e-2, 2e-2, 5e-2, .1,   1};

// 1, 2, 5, 10, ... as far as `most`.
std::vector<double> TokenCounts(int64_t most) {
  std::vector<double> buckets;
  for (int64_t decade = 1; decade <= most; decade *= 10) {
    for (const int64_t step : {1, 2, 5}) {
      if (step * decade <= most) buckets.push_back(static_cast<double>(step * decade));
    }
  }
  return buckets;
}

// How the field calls it.
const char* NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "abort";
  }
  DS_CHECK(false) << static_cast<int>(reason);
  return "";
}

// "QUEUE_FULL".
std::string NameOf(v1::ErrorCode code) {
  constexpr char kPrefix[] = "ERROR_CODE_";
  return v1::ErrorCode_Name(code).substr(sizeof(kPrefix) - 1);
}

// `index`: an enumerator's.
void Count(const std::vector<prometheus::Counter*>& counters, int index) {
  DS_CHECK(index >= 0 && static_cast<size_t>(index) < counters.size()) << index;
  counters[static_cast<size_t>(index)]->Increment();
}

void Observe(prometheus::Histogram& histogram, SteadyTime from, SteadyTime to) {
  histogram.Observe(std::chrono::duration<double>(to - from).count());
}

}  // namespace

RecordedMetrics::RecordedMetrics(const std::string& model_name, int64_t max_context)
    : labels_(WorldLabels(model_name)),
      prompt_tokens_(MakeCounter("vllm:prompt_tokens_total", "Tokens prefilled.")),
      generation_tokens_(MakeCounter("vllm:generation_tokens_total", "Tokens generated.")),
      ended_(MakeReasonCounters("vllm:request_success_total",
                                "Requests that ended without an error, by reason.")),
      failed_(MakeErrorCounters("deltaserve:requests_failed_total",
                                "Requests that were queued and ended with an error, by its code.")),
      refused_(MakeErrorCounters("deltaserve:requests_refused_total",
                                 "Requests that were not queued, by the error's code.")),
      step_tokens_(MakeHistogram(
          "vllm:iteration_tokens_total", "Tokens prefilled and generated in a step.", kStepTokens)),
      step_seconds_(MakeHistogram(
          "deltaserve:step_seconds", "Time of a step, host and model together.", kStepSeconds)),
      step_host_seconds_(MakeHistogram(
          "deltaserve:step_host_seconds",
          "Part of a step's time outside of the model: planning, sending plans and results.",
          kHostSeconds)),
      first_token_seconds_(MakeHistogram("vllm:time_to_first_token_seconds",
                                         "From a request's arrival to its first token.",
                                         kFirstTokenSeconds)),
      next_token_seconds_(MakeHistogram("vllm:inter_token_latency_seconds",
                                        "From a token of a request to its next.",
                                        kTokenSeconds)),
      request_prompt_tokens_(MakeHistogram(
          "vllm:request_prompt_tokens", "Prompt tokens of a request.", TokenCounts(max_context))),
      request_generation_tokens_(MakeHistogram("vllm:request_generation_tokens",
                                               "Tokens generated for a request.",
                                               TokenCounts(max_context))),
      request_max_tokens_(MakeHistogram(
          "vllm:request_params_max_tokens", "max_tokens of a request.", TokenCounts(max_context))),
      request_seconds_(MakeHistogram("vllm:e2e_request_latency_seconds",
                                     "From a request's arrival to its end.",
                                     kRequestSeconds)),
      queue_seconds_(MakeHistogram("vllm:request_queue_time_seconds",
                                   "From a request's arrival to its admission.",
                                   kRequestSeconds)),
      prefill_seconds_(MakeHistogram("vllm:request_prefill_time_seconds",
                                     "From a request's admission to its first token.",
                                     kRequestSeconds)),
      decode_seconds_(MakeHistogram("vllm:request_decode_time_seconds",
                                    "From a request's first token to its last.",
                                    kRequestSeconds)),
      inference_seconds_(MakeHistogram("vllm:request_inference_time_seconds",
                                       "From a request's admission to its last token.",
                                       kRequestSeconds)),
      token_seconds_(MakeHistogram("vllm:request_time_per_output_token_seconds",
                                   "Mean time from a token of a request to its next.",
                                   kTokenSeconds)) {}

prometheus::Counter& RecordedMetrics::MakeCounter(const std::string& name,
                                                  const std::string& help) {
  return prometheus::BuildCounter().Name(name).Help(help).Labels(labels_).Register(registry_).Add(
      {});
}

RecordedMetrics::Counters RecordedMetrics::MakeErrorCounters(const std::string& name,
                                                             const std::string& help) {
  auto& family =
      prometheus::BuildCounter().Name(name).Help(help).Labels(labels_).Register(registry_);
  Counters counters;
  for (int code = v1::ErrorCode_MIN; code <= v1::ErrorCode_MAX; ++code) {
    counters.push_back(&family.Add({{"code", NameOf(static_cast<v1::ErrorCode>(code))}}));
  }
  return counters;
}

RecordedMetrics::Counters RecordedMetrics::MakeReasonCounters(const std::string& name,
                                                              const std::string& help) {
  auto& family =
      prometheus::BuildCounter().Name(name).Help(help).Labels(labels_).Register(registry_);
  Counters counters;
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled}) {
    DS_CHECK_EQ(static_cast<size_t>(reason), counters.size());
    counters.push_back(&family.Add({{"finished_reason", NameOf(reason)}}));
  }
  return counters;
}

prometheus::Histogram& RecordedMetrics::MakeHistogram(const std::string& name,
                                                      const std::string& help,
                                                      std::span<const double> buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Labels(labels_).Register(registry_).Add(
      {}, std::vector<double>(buckets.begin(), buckets.end()));
}

void RecordedMetrics::OnRefused(v1::ErrorCode code) { Count(refused_, code); }

void RecordedMetrics::OnStep(const StepRecord& step) {
  prompt_tokens_.Increment(static_cast<double>(step.prompt_tokens));
  generation_tokens_.Increment(static_cast<double>(step.generated_tokens));
  step_tokens_.Observe(static_cast<double>(step.prompt_tokens + step.generated_tokens));
  step_seconds_.Observe(absl::ToDoubleSeconds(step.host_time + step.run_time));
  step_host_seconds_.Observe(absl::ToDoubleSeconds(step.host_time));
}

void RecordedMetrics::OnFirstToken(absl::Duration since_submit) {
  first_token_seconds_.Observe(absl::ToDoubleSeconds(since_submit));
}

void RecordedMetrics::OnNextToken(absl::Duration since_last) {
  next_token_seconds_.Observe(absl::ToDoubleSeconds(since_last));
}

void RecordedMetrics::OnEnd(const RequestRecord& request) {
  if (const auto* reason = std::get_if<FinishReason>(&request.end)) {
    Count(ended_, static_cast<int>(*reason));
  } else {
    Count(failed_, std::get<v1::ErrorCode>(request.end));
  }
  request_prompt_tokens_.Observe(request.prompt_tokens);
  request_generation_tokens_.Observe(request.generated_tokens);
  request_max_tokens_.Observe(request.max_tokens);
  Observe(request_seconds_, request.submitted, request.ended);
  if (!request.admitted.has_value()) return;
  Observe(queue_seconds_, request.submitted, *request.admitted);
  if (!request.first_token.has_value()) return;
  Observe(prefill_seconds_, *request.admitted, *request.first_token);
  Observe(decode_seconds_, *request.first_token, *request.last_token);
  Observe(inference_seconds_, *request.admitted, *request.last_token);
  if (request.generated_tokens < 2) return;
  const std::chrono::duration<double> decode = *request.last_token - *request.first_token;
  token_seconds_.Observe(decode.count() / (request.generated_tokens - 1));
}

std::vector<prometheus::MetricFamily> RecordedMetrics::Collect() const {
  return registry_.Collect();
}

}  // namespace deltaserve
