#pragma once

// RoutingPolicy: which of the worlds that could take a request takes it.

#include <cstddef>
#include <vector>

#include "router/worlds/world_view.h"

namespace deltaserve {

// A pure choice. Threads: any. Owner: WorldRegistry.
class RoutingPolicy {
 public:
  virtual ~RoutingPolicy() = default;

  // Index of the chosen one. `candidates` are ready and serve the model; there is at least one.
  virtual size_t Choose(const std::vector<WorldView>& candidates) const = 0;
};

// The one with the fewest of this router's own streams, which are counted before a call starts, so
// that a burst does not pile up on stale reports. The first of equals.
class FewestStreams : public RoutingPolicy {
 public:
  size_t Choose(const std::vector<WorldView>& candidates) const override;
};

}  // namespace deltaserve
