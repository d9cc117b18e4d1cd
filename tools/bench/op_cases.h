#pragma once

// The ops that bench_ops runs: shapes of the 0.8b model, and of experts those of a mixture of 64
// with hidden_size 2048.

#include <functional>
#include <string>
#include <vector>

#include "tools/bench/cost.h"
#include "tools/bench/op_data.h"

namespace deltaserve::bench {

// Something to run and what it costs. `run` enqueues; its data belongs to the OpData it was made
// with. All that a run reads of weights, states, keys and values is larger than caches are, unless
// the name says otherwise.
struct OpCase {
  std::string name = {};
  int64_t rows = 0;   // of one run
  int64_t calls = 1;  // of the op in one run
  Cost cost = {};     // of one run
  std::function<void()> run = {};
};

// Cases that share memory and are measured in turn.
struct OpGroup {
  std::vector<std::string> names;  // of its cases, in order
  std::function<std::vector<OpCase>(OpData&)> make;
};

std::vector<OpGroup> OpGroups();

}  // namespace deltaserve::bench
