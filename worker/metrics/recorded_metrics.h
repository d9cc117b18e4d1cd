#pragma once

// RecordedMetrics: counters and histograms of what the engine of rank 0 tells as it happens.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "deltaserve/v1/params.pb.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "worker/engine/engine_observer.h"

namespace deltaserve {

// Names, buckets and labels as vLLM has them where the meaning is the same, else below
// "deltaserve:"; docs/metrics.md says of each what it is. Label values are enumerations, all made
// at the start, so memory does not grow.
//
// Threads: as EngineObserver says; Collect: any. Owner: main; outlives engine and servers.
// Recording takes no lock that a scrape holds for longer than it copies one histogram.
class RecordedMetrics final : public EngineObserver, public prometheus::Collectable {
 public:
  // `max_context`: of the world, bounds the buckets of token counts.
  RecordedMetrics(const std::string& model_name, int64_t max_context);

  void OnRefused(v1::ErrorCode code) override;
  void OnStep(const StepRecord& step) override;
  void OnFirstToken(absl::Duration since_submit) override;
  void OnNextToken(absl::Duration since_last) override;
  void OnEnd(const RequestRecord& request) override;

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  using Counters = std::vector<prometheus::Counter*>;

  prometheus::Counter& MakeCounter(const std::string& name, const std::string& help);
  // One for each ErrorCode, by number; label `code`.
  Counters MakeErrorCounters(const std::string& name, const std::string& help);
  // One for each FinishReason, by number; label `finished_reason`.
  Counters MakeReasonCounters(const std::string& name, const std::string& help);
  prometheus::Histogram& MakeHistogram(const std::string& name,
                                       const std::string& help,
                                       std::span<const double> buckets);

  const prometheus::Labels labels_;
  prometheus::Registry registry_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& generation_tokens_;
  const Counters ended_;
  const Counters failed_;
  const Counters refused_;
  prometheus::Histogram& step_tokens_;
  prometheus::Histogram& step_seconds_;
  prometheus::Histogram& step_host_seconds_;
  prometheus::Histogram& first_token_seconds_;
  prometheus::Histogram& next_token_seconds_;
  prometheus::Histogram& request_prompt_tokens_;
  prometheus::Histogram& request_generation_tokens_;
  prometheus::Histogram& request_max_tokens_;
  prometheus::Histogram& request_seconds_;
  prometheus::Histogram& queue_seconds_;
  prometheus::Histogram& prefill_seconds_;
  prometheus::Histogram& decode_seconds_;
  prometheus::Histogram& inference_seconds_;
  prometheus::Histogram& token_seconds_;
};

}  // namespace deltaserve
