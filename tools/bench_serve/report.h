#pragma once

// What a load showed: throughput, percentiles, goodput and errors; as a table, JSON and a plot.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/bench_serve/outcome.h"

namespace deltaserve::bench {

// What a request must keep to count as good: seconds, of the first token and of the mean gap.
struct Objective {
  double first = 0;  // 0: anything
  double gap = 0;
};

struct Percentiles {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, most = 0;  // seconds
};

// 0 where there are none. Percentile p is the least value that p % of all do not exceed.
Percentiles PercentilesOf(std::vector<double> values);

struct Report {
  std::string name;    // "rate 2/s", "8 at once", "trace"
  double offered = 0;  // requests a second, or how many at once; the plot's x
  size_t requests = 0, answered = 0;
  double seconds = 0;  // from the first arrival to the last end
  double request_rate = 0, prompt_rate = 0, output_rate = 0, good_rate = 0;  // a second
  Percentiles first = {}, gap = {}, total = {};
  Percentiles beside = {};  // gap, of those that lie within the time to first token of another
  size_t num_beside = 0;    // request that has a long prompt
  std::map<std::string, size_t> errors = {};
};

// `long_prompt`: tokens from which on a prompt is a long one; 0: none is.
Report Summarize(const std::string& name,
                 double offered,
                 const std::vector<Outcome>& outcomes,
                 const Objective& objective,
                 uint32_t long_prompt = 0);

std::string ReportTable(const std::vector<Report>& reports);
nlohmann::ordered_json ReportJson(const std::vector<Report>& reports);

// Latencies against what was offered, one curve a percentile: an SVG document. `axis`: what
// `offered` counts.
std::string ReportPlot(const std::vector<Report>& reports, const std::string& axis);

}  // namespace deltaserve::bench
