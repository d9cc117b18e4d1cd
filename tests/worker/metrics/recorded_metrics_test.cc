#include "worker/metrics/recorded_metrics.h"

#include <cmath>
#include <limits>
#include <sstream>

#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"
#include "tests/worker/metrics/exposition.h"

namespace deltaserve {
namespace {

using test::Exposition;

Exposition Scrape(const prometheus::Collectable& metrics) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, metrics.Collect());
  absl::StatusOr<Exposition> parsed = test::ParseExposition(out.str());
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.value_or(Exposition());
}

SteadyTime At(double seconds) {
  return SteadyTime(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

TEST(RecordedMetricsTest, EveryMetricHasTheLabelsOfItsWorld) {
  const RecordedMetrics metrics("a \"model\"", 4096);
  const Exposition all = Scrape(metrics);
  EXPECT_GT(all.samples.size(), 100u);
  for (const Exposition::Sample& sample : all.samples) {
    EXPECT_EQ(sample.labels.at("model_name"), "a \\\"model\\\"") << sample.name;
    EXPECT_EQ(sample.labels.at("engine"), "0") << sample.name;
  }
}

TEST(RecordedMetricsTest, StepsAddUp) {
  RecordedMetrics metrics("m", 4096);
  metrics.OnStep({.prompt_tokens = 64,
                  .generated_tokens = 3,
                  .host_time = absl::Microseconds(100),
                  .run_time = absl::Milliseconds(10)});
  metrics.OnStep({.prompt_tokens = 0,
                  .generated_tokens = 8,
                  .host_time = absl::Microseconds(30),
                  .run_time = absl::Milliseconds(3)});
  const Exposition all = Scrape(metrics);
  EXPECT_EQ(all.Sum("vllm:prompt_tokens_total"), 64);
  EXPECT_EQ(all.Sum("vllm:generation_tokens_total"), 11);
  EXPECT_EQ(all.Sum("vllm:iteration_tokens_total_sum"), 75);
  EXPECT_EQ(all.Sum("vllm:iteration_tokens_total_count"), 2);
  // A value on a bound belongs below it.
  EXPECT_EQ(all.Sum("vllm:iteration_tokens_total_bucket", {{"le", "8"}}), 1);
  EXPECT_EQ(all.Sum("vllm:iteration_tokens_total_bucket", {{"le", "1"}}), 0);
  EXPECT_NEAR(all.Sum("deltaserve:step_seconds_sum"), 0.01313, 1e-9);
  EXPECT_NEAR(all.Sum("deltaserve:step_host_seconds_sum"), 0.00013, 1e-9);
  EXPECT_EQ(all.Sum("deltaserve:step_host_seconds_bucket", {{"le", "5e-05"}}), 1);
}

TEST(RecordedMetricsTest, TokensHaveTheirLatencies) {
  RecordedMetrics metrics("m", 4096);
  metrics.OnFirstToken(absl::Milliseconds(300));
  metrics.OnNextToken(absl::Milliseconds(20));
  metrics.OnNextToken(absl::Milliseconds(60));
  const Exposition all = Scrape(metrics);
  EXPECT_EQ(all.Sum("vllm:time_to_first_token_seconds_count"), 1);
  EXPECT_NEAR(all.Sum("vllm:time_to_first_token_seconds_sum"), 0.3, 1e-9);
  EXPECT_EQ(all.Sum("vllm:inter_token_latency_seconds_count"), 2);
  EXPECT_NEAR(all.Sum("vllm:inter_token_latency_seconds_sum"), 0.08, 1e-9);
}

// What a request that got so far adds to the histograms of requests.
TEST(RecordedMetricsTest, ARequestCountsInThePhasesThatItReached) {
  const RequestRecord whole = {.prompt_tokens = 100,
                               .max_tokens = 50,
                               .generated_tokens = 11,
                               .submitted = At(1),
                               .admitted = At(3),
                               .first_token = At(7),
                               .last_token = At(12),
                               .ended = At(13),
                               .end = FinishReason::kLength};
  RequestRecord one_token = whole;
  one_token.generated_tokens = 1;
  one_token.last_token = one_token.first_token;
  one_token.end = FinishReason::kStop;
  RequestRecord without_token = whole;
  without_token.generated_tokens = 0;
  without_token.first_token = without_token.last_token = std::nullopt;
  without_token.end = FinishReason::kCancelled;
  RequestRecord waited = without_token;
  waited.admitted = std::nullopt;
  waited.end = v1::ERROR_CODE_DEADLINE;
  constexpr double kNone = -1;  // seconds
  struct Row {
    const char* name;
    RequestRecord record;
    double queue, prefill, decode, inference, per_token;
  };
  const Row rows[] = {{"whole", whole, 2, 4, 5, 9, 0.5},
                      {"one token", one_token, 2, 4, 0, 4, kNone},
                      {"without token", without_token, 2, kNone, kNone, kNone, kNone},
                      {"waited", waited, kNone, kNone, kNone, kNone, kNone}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    RecordedMetrics metrics("m", 4096);
    metrics.OnEnd(row.record);
    const Exposition all = Scrape(metrics);
    const auto expect = [&](const std::string& name, double seconds) {
      EXPECT_EQ(all.Sum(name + "_count"), seconds == kNone ? 0 : 1) << name;
      EXPECT_NEAR(all.Sum(name + "_sum"), seconds == kNone ? 0 : seconds, 1e-9) << name;
    };
    expect("vllm:request_queue_time_seconds", row.queue);
    expect("vllm:request_prefill_time_seconds", row.prefill);
    expect("vllm:request_decode_time_seconds", row.decode);
    expect("vllm:request_inference_time_seconds", row.inference);
    expect("vllm:request_time_per_output_token_seconds", row.per_token);
    expect("vllm:e2e_request_latency_seconds", 12);
    expect("vllm:request_prompt_tokens", 100);
    expect("vllm:request_params_max_tokens", 50);
    expect("vllm:request_generation_tokens", row.record.generated_tokens);
    const bool failed = std::holds_alternative<v1::ErrorCode>(row.record.end);
    EXPECT_EQ(all.Sum("vllm:request_success_total"), failed ? 0 : 1);
    EXPECT_EQ(all.Sum("deltaserve:requests_failed_total"), failed ? 1 : 0);
  }
}

TEST(RecordedMetricsTest, EndsAndRefusalsAreCountedByTheirName) {
  RecordedMetrics metrics("m", 4096);
  RequestRecord record;
  const std::pair<FinishReason, std::string> reasons[] = {{FinishReason::kStop, "stop"},
                                                          {FinishReason::kLength, "length"},
                                                          {FinishReason::kCancelled, "abort"}};
  for (const auto& [reason, name] : reasons) {
    record.end = reason;
    metrics.OnEnd(record);
  }
  for (int code = v1::ErrorCode_MIN; code <= v1::ErrorCode_MAX; ++code) {
    record.end = static_cast<v1::ErrorCode>(code);
    metrics.OnEnd(record);
    metrics.OnRefused(static_cast<v1::ErrorCode>(code));
    metrics.OnRefused(static_cast<v1::ErrorCode>(code));
  }
  const Exposition all = Scrape(metrics);
  for (const auto& [reason, name] : reasons) {
    EXPECT_EQ(all.Sum("vllm:request_success_total", {{"finished_reason", name}}), 1) << name;
  }
  for (const char* code : {"UNSPECIFIED", "INVALID_FIELD", "CONTEXT_TOO_LONG", "MODEL_NOT_FOUND",
                           "QUEUE_FULL", "DEADLINE", "WORLD_LOST", "DRAINING", "UNSUPPORTED",
                           "UNAUTHENTICATED", "QUOTA", "INTERNAL"}) {
    EXPECT_EQ(all.Sum("deltaserve:requests_failed_total", {{"code", code}}), 1) << code;
    EXPECT_EQ(all.Sum("deltaserve:requests_refused_total", {{"code", code}}), 2) << code;
  }
}

TEST(RecordedMetricsTest, WhatHappensAddsNoSeries) {
  RecordedMetrics metrics("m", 4096);
  const size_t before = Scrape(metrics).samples.size();
  for (int i = 0; i < 100; ++i) {
    RequestRecord record{.prompt_tokens = static_cast<uint32_t>(i * 997), .submitted = At(i)};
    record.end = static_cast<v1::ErrorCode>(i % v1::ErrorCode_ARRAYSIZE);
    metrics.OnEnd(record);
    metrics.OnStep({.prompt_tokens = int64_t{31} * i});
    metrics.OnFirstToken(absl::Seconds(i * 100));
  }
  EXPECT_EQ(Scrape(metrics).samples.size(), before);
}

TEST(RecordedMetricsTest, TokenCountsReachTheLongestContext) {
  const RecordedMetrics metrics("m", 1000);
  const Exposition all = Scrape(metrics);
  const std::string name = "vllm:request_prompt_tokens_bucket";
  for (const char* bound : {"1", "2", "5", "500", "1000"}) {
    EXPECT_EQ(all.Sum(name, {{"le", bound}}), 0) << bound;
  }
  EXPECT_TRUE(std::isnan(all.Sum(name, {{"le", "2000"}})));
}

// Every kind of line that no scrape may hold; what the tests of this folder and of whole
// deployments stand on.
TEST(ExpositionTest, RefusesWhatIsNoExposition) {
  const std::string head = "# HELP a b\n# TYPE a counter\n# TYPE h histogram\n";
  EXPECT_TRUE(test::ParseExposition(head + "a 1\na{x=\"y\"} 2e3\n").ok());
  EXPECT_TRUE(test::ParseExposition(head + "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n"
                                           "h_sum 3\nh_count 2\n")
                  .ok());
  for (const char* bad :
       {"a 1", "a\n", "a x\n", "a 1 x\n", "a{x} 1\n", "a{x=\"y} 1\n", "a{x=\"y\"z=\"\"} 1 1 1\n",
        "a{x=\"1\",x=\"2\"} 1\n", "b 1\n", "a 1\na 2\n", "a -1\n", "# what\n", "# TYPE a gauge\n",
        "# TYPE c number\n", "h_count 1\n", "h_bucket{le=\"+Inf\"} 2\nh_count 1\n",
        "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n", "a_sum 1\n"}) {
    EXPECT_FALSE(test::ParseExposition(head + bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace deltaserve
