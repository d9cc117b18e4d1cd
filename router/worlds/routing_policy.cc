#include "router/worlds/routing_policy.h"

#include <algorithm>

namespace deltaserve {

size_t FewestStreams::Choose(const std::vector<WorldView>& candidates) const {
  const auto fewest = std::min_element(
      candidates.begin(), candidates.end(),
      [](const WorldView& a, const WorldView& b) { return a.in_flight < b.in_flight; });
  return static_cast<size_t>(fewest - candidates.begin());
}

}  // namespace deltaserve
