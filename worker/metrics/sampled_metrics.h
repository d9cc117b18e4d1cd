#pragma once

// SampledMetrics: what is read from a world at the moment of a scrape.

#include <string>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/labels.h"
#include "worker/comm/communicator.h"
#include "worker/comm/control_link.h"
#include "worker/engine/engine.h"

namespace deltaserve {

// Names and labels as RecordedMetrics has them. Threads: any. Owner: main, on rank 0; engine, link
// and communicator outlive it.
class SampledMetrics final : public prometheus::Collectable {
 public:
  SampledMetrics(const std::string& model_name,
                 const EngineHandle& engine,
                 const ControlLink& link,
                 const Communicator& comm);

  // Ranks' heartbeats and collectives are there only where the world has several ranks.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const prometheus::Labels labels_;
  const EngineHandle& engine_;
  const ControlLink& link_;
  const Communicator& comm_;
};

}  // namespace deltaserve
