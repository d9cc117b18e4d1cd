#pragma once

// Runs a load against a router and measures every request as its client sees it.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "deltaserve/v1/inference.grpc.pb.h"
#include "tools/bench_serve/outcome.h"
#include "tools/bench_serve/workload.h"

namespace deltaserve::bench {

struct LoadOptions {
  uint32_t concurrency = 0;       // closed loop: so many at once; 0: open loop, by arrivals
  uint32_t max_in_flight = 1024;  // open loop: a request beyond waits for a place
  double timeout_seconds = 600;   // of one request
  double temperature = 0;
};

// Done and running requests and failures so far; called about twice a second.
using Progress = std::function<void(size_t done, size_t running, size_t failed)>;

// Every request, in the order of `arrivals`. A thread a running request.
std::vector<Outcome> RunLoad(v1::Inference::Stub& stub,
                             const std::vector<Arrival>& arrivals,
                             const Prompts& prompts,
                             const LoadOptions& options,
                             const Progress& progress);

}  // namespace deltaserve::bench
