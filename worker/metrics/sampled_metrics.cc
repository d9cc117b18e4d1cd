#include "worker/metrics/sampled_metrics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops.h"
#include "prometheus/metric_family.h"
#include "worker/metrics/world_labels.h"

namespace deltaserve {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// Families with the labels of a world, each made of values at hand.
class Snapshot {
 public:
  explicit Snapshot(const prometheus::Labels& labels) : labels_(labels) {}

  void Gauge(const std::string& name, const std::string& help, double value) {
    Begin(name, help, MetricType::Gauge);
    AddGauge({}, value);
  }

  void Counter(const std::string& name, const std::string& help, double value) {
    Begin(name, help, MetricType::Counter);
    families_.back().metric.push_back(Labelled({}));
    families_.back().metric.back().counter.value = value;
  }

  void Begin(const std::string& name, const std::string& help, MetricType type) {
    families_.push_back({.name = name, .help = help, .type = type, .metric = {}});
  }

  // One more of the family begun last.
  void AddGauge(const prometheus::Labels& more, double value) {
    families_.back().metric.push_back(Labelled(more));
    families_.back().metric.back().gauge.value = value;
  }

  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  ClientMetric Labelled(const prometheus::Labels& more) const {
    ClientMetric metric;
    for (const auto& [name, value] : labels_) metric.label.push_back({name, value});
    for (const auto& [name, value] : more) metric.label.push_back({name, value});
    return metric;
  }

  const prometheus::Labels& labels_;
  std::vector<MetricFamily> families_;
};

void AddEngine(const EngineLoad& load, const EngineCapacity& capacity, Snapshot* all) {
  all->Gauge("vllm:num_requests_running", "Requests that hold a slot.", load.running);
  all->Gauge("vllm:num_requests_waiting", "Requests that wait for one.", load.waiting);
  all->Gauge("vllm:kv_cache_usage_perc", "KV blocks in use, 1 where all are.",
             static_cast<double>(load.kv_blocks_used) /
                 static_cast<double>(std::max<int64_t>(capacity.kv_blocks, 1)));
  all->Begin("vllm:cache_config_info", "Sizes of the KV cache, as labels.", MetricType::Gauge);
  all->AddGauge({{"block_size", absl::StrCat(kBlockTokens)},
                 {"num_gpu_blocks", absl::StrCat(capacity.kv_blocks)}},
                1);
  all->Gauge("deltaserve:state_slots", "Slots, each with its recurrent state.",
             static_cast<double>(capacity.slots));
  all->Gauge("deltaserve:state_slots_used", "Slots in use.", load.slots_used);
  all->Gauge("deltaserve:step_age_seconds", "Since a step last ended; 0 where there is no work.",
             absl::ToDoubleSeconds(load.last_step_age));
}

void AddRanks(const std::vector<PeerAge>& ages, Snapshot* all) {
  if (ages.empty()) return;
  all->Begin("deltaserve:rank_heartbeat_age_seconds", "Since rank 0 last heard the rank.",
             MetricType::Gauge);
  for (const PeerAge& peer : ages) {
    all->AddGauge({{"rank", absl::StrCat(peer.rank)}}, absl::ToDoubleSeconds(peer.age));
  }
}

void AddCollectives(const Communicator& comm, Snapshot* all) {
  if (comm.size() == 1) return;
  const CommunicatorStats stats = comm.Stats();
  all->Counter("deltaserve:collectives_total", "Collectives of rank 0.",
               static_cast<double>(stats.calls));
  all->Counter("deltaserve:collective_bytes_total", "Bytes that rank 0 brought to collectives.",
               static_cast<double>(stats.bytes));
  all->Counter("deltaserve:collective_seconds_total",
               "Time of rank 0 in collectives, waiting for slower ranks included.",
               absl::ToDoubleSeconds(stats.time));
}

}  // namespace

SampledMetrics::SampledMetrics(const std::string& model_name,
                               const EngineHandle& engine,
                               const ControlLink& link,
                               const Communicator& comm)
    : labels_(WorldLabels(model_name)), engine_(engine), link_(link), comm_(comm) {}

std::vector<prometheus::MetricFamily> SampledMetrics::Collect() const {
  Snapshot all(labels_);
  AddEngine(engine_.load(), engine_.capacity(), &all);
  AddRanks(link_.PeerAges(), &all);
  AddCollectives(comm_, &all);
  return all.Take();
}

}  // namespace deltaserve
