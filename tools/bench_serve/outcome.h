#pragma once

// What one request of a load came to.

#include <cstdint>
#include <string>
#include <vector>

namespace deltaserve::bench {

// One request, in seconds. Of an open loop times count from the arrival that was planned, so that a
// request that waits for its turn here is not told as a quick one.
struct Outcome {
  std::string error = {};         // empty: it was answered; else the ErrorCode or the gRPC status
  double first = 0;               // to the first token
  double total = 0;               // to the end
  double begin = 0, end = 0;      // after the load's start
  std::vector<double> gaps = {};  // between tokens: of a step that made k, k times a k-th
  uint32_t prompt_tokens = 0, output_tokens = 0;
};

}  // namespace deltaserve::bench
