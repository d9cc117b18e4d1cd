#pragma once

// Exposition: Prometheus' text format, read strictly.

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace deltaserve::test {

// A value.
struct Exposition {
  struct Sample {
    std::string name;
    std::map<std::string, std::string> labels;
    double value = 0;
  };

  std::map<std::string, std::string> types;  // of families, by name
  std::vector<Sample> samples;

  // The sum of all samples of `name` with these labels; NaN where there is none.
  double Sum(const std::string& name, const std::map<std::string, std::string>& labels = {}) const;
};

// INVALID_ARGUMENT with the line for anything that the format does not allow: a line of another
// form, a sample without a family's type before it, a sample twice, a negative counter, buckets
// that go down or whose last is not the count.
absl::StatusOr<Exposition> ParseExposition(const std::string& text);

}  // namespace deltaserve::test
