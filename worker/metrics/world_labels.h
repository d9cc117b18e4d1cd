#pragma once

// The labels that every metric of a world carries.

#include <string>

#include "prometheus/labels.h"

namespace deltaserve {

// As dashboards of the field filter by: `engine` numbers the engines behind one address, and a
// world has one.
inline prometheus::Labels WorldLabels(const std::string& model_name) {
  return {{"engine", "0"}, {"model_name", model_name}};
}

}  // namespace deltaserve
