#pragma once

// Measurement: how long something took, what it had to move and compute, and what the machine could
// have done in that time; as a table and JSON.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "tools/bench/cost.h"
#include "tools/bench/limits.h"

namespace deltaserve::bench {

struct Measurement {
  std::string what = {};
  double tokens = 0;                 // of one run; 0: it is not counted in tokens
  int64_t calls = 1;                 // of an op in one run
  Cost cost = {};                    // of one run
  std::vector<double> seconds = {};  // of each run, interleaved with those of others
  std::vector<Limits> limits = {};   // of each run, from right before and right after it

  double median() const { return MedianOf(seconds); }
  // The median of the runs' shares of what the machine could have done at that moment; 0 where no
  // limit was measured.
  double share_of_read() const;
  double share_of_fma() const;
  double share_of_int8() const;
  // The larger of the first two: what is missing from 1 is what remains to be won.
  double share_of_limit() const;
};

// One line a measurement under a line of names.
std::string MeasurementTable(const std::vector<Measurement>& all);

// What holds for all measurements.
struct Fact {
  std::string name;
  std::variant<std::string, double, std::vector<double>> value;
};

// One object: the facts, "limits" (`limits`, with the names of the instructions) and
// "measurements"; ends with a newline.
std::string MeasurementJson(const std::vector<Fact>& facts,
                            const Limits& limits,
                            const std::vector<Measurement>& all);

}  // namespace deltaserve::bench
