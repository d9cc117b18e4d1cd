// What a world counts, against what clients did.

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/system/served_model.h"
#include "tests/worker/metrics/exposition.h"
#include "tests/worker/metrics/http_get.h"

namespace deltaserve::test {
namespace {

// Where the log says that metrics are; empty where it does not say within a minute.
std::string MetricsAddress(const Process& world) {
  const std::string before = "metrics on http://";
  for (const absl::Time end = absl::Now() + absl::Minutes(1); absl::Now() < end;) {
    const std::string log = world.Log();
    const size_t at = log.find(before);
    const size_t slash = at == std::string::npos ? at : log.find("/metrics", at);
    if (slash != std::string::npos) {
      return log.substr(at + before.size(), slash - at - before.size());
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return "";
}

// The code that a world refuses `request` with.
v1::ErrorCode Refusal(v1::World::Stub& world, const v1::TokenRequest& request) {
  grpc::ClientContext context;
  const auto stream = world.Generate(&context, request);
  v1::TokenEvent event;
  while (stream->Read(&event)) {
  }
  return DetailOf(stream->Finish()).code();
}

TEST(MetricsTest, CountWhatClientsDid) {
  ServedModel served(2, {"--metrics-listen", "127.0.0.1:0", "--model-name", "tiny"});
  constexpr int kWhole = 3;
  constexpr int kTokens = 20;
  double prompt_tokens = 0;
  for (int i = 0; i < kWhole; ++i) {
    grpc::ClientContext context;
    const Answer answer =
        Generate(served.inference(), GreedyRequest("some words", kTokens), context);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    prompt_tokens = answer.finished.usage().prompt_tokens();
  }
  {
    grpc::ClientContext context;
    const auto stream = served.inference().Generate(&context, GreedyRequest("some words", 8000));
    v1::GenerateEvent event;
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(stream->Read(&event));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::CANCELLED);
  }
  v1::TokenRequest refused;
  refused.mutable_sampling()->set_temperature(0);
  refused.mutable_stop()->set_max_tokens(1U << 30);
  EXPECT_EQ(Refusal(served.world_stub(), refused), v1::ERROR_CODE_INVALID_FIELD);  // no prompt
  refused.add_prompt_ids(1);
  EXPECT_EQ(Refusal(served.world_stub(), refused), v1::ERROR_CODE_CONTEXT_TOO_LONG);
  served.WaitUntilEmpty();

  const std::string address = MetricsAddress(served.world());
  const absl::StatusOr<HttpAnswer> answer = HttpRequest("GET", address, "/metrics");
  ASSERT_TRUE(answer.ok()) << answer.status() << " at " << address << "\n" << served.world().Log();
  EXPECT_EQ(answer->code, 200);
  EXPECT_THAT(answer->headers, ::testing::HasSubstr("Content-Type: text/plain"));
  const absl::StatusOr<Exposition> all = ParseExposition(answer->body);
  ASSERT_TRUE(all.ok()) << all.status();
  const auto sum = [&](const std::string& name,
                       const std::map<std::string, std::string>& labels = {}) {
    std::map<std::string, std::string> of_world = {{"model_name", "tiny"}, {"engine", "0"}};
    of_world.insert(labels.begin(), labels.end());
    return all->Sum(name, of_world);
  };
  const std::string ended = "vllm:request_success_total";
  EXPECT_EQ(sum(ended, {{"finished_reason", "length"}}), kWhole);
  EXPECT_EQ(sum(ended, {{"finished_reason", "abort"}}), 1);
  EXPECT_EQ(sum(ended), kWhole + 1);
  EXPECT_EQ(sum("deltaserve:requests_failed_total"), 0);
  EXPECT_EQ(sum("deltaserve:requests_refused_total", {{"code", "INVALID_FIELD"}}), 1);
  EXPECT_EQ(sum("deltaserve:requests_refused_total", {{"code", "CONTEXT_TOO_LONG"}}), 1);
  EXPECT_EQ(sum("deltaserve:requests_refused_total"), 2);
  EXPECT_EQ(sum("vllm:prompt_tokens_total"), (kWhole + 1) * prompt_tokens);
  EXPECT_EQ(sum("vllm:request_prompt_tokens_sum"), (kWhole + 1) * prompt_tokens);
  EXPECT_EQ(sum("vllm:request_params_max_tokens_sum"), kWhole * kTokens + 8000);
  const double generated = sum("vllm:generation_tokens_total");
  EXPECT_GE(generated, kWhole * kTokens + 3);
  EXPECT_LT(generated, kWhole * kTokens + 8000);
  EXPECT_EQ(sum("vllm:request_generation_tokens_sum"), generated);
  EXPECT_EQ(sum("vllm:time_to_first_token_seconds_count"), kWhole + 1);
  EXPECT_EQ(sum("vllm:inter_token_latency_seconds_count"), generated - (kWhole + 1));
  EXPECT_EQ(sum("vllm:e2e_request_latency_seconds_count"), kWhole + 1);
  EXPECT_EQ(sum("vllm:num_requests_running"), 0);
  EXPECT_EQ(sum("vllm:num_requests_waiting"), 0);
  EXPECT_EQ(sum("vllm:kv_cache_usage_perc"), 0);
  EXPECT_EQ(sum("deltaserve:state_slots_used"), 0);
  EXPECT_GE(sum("deltaserve:step_seconds_count"), generated);
  EXPECT_GT(sum("deltaserve:collective_seconds_total"), 0);
  // A heartbeat comes each second.
  EXPECT_GE(sum("deltaserve:rank_heartbeat_age_seconds", {{"rank", "1"}}), 0);
  EXPECT_LT(sum("deltaserve:rank_heartbeat_age_seconds", {{"rank", "1"}}), 10);
}

}  // namespace
}  // namespace deltaserve::test
