#pragma once

// WorldRegistry: the worlds that a router knows, and the choice among them.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/worlds/routing_policy.h"
#include "router/worlds/world_client.h"
#include "router/worlds/world_view.h"

namespace deltaserve {

// A world that takes a request, with the facts it was chosen by.
struct ChosenWorld {
  WorldClient* client = nullptr;  // as long as the registry
  std::shared_ptr<const WorldFacts> facts;
};

// Threads: any. Owner: the router's server.
class WorldRegistry {
 public:
  // Connects to each of `worlds` in the background. At least one.
  WorldRegistry(const std::vector<WorldClientOptions>& worlds,
                std::unique_ptr<const RoutingPolicy> policy);

  std::vector<WorldView> Views() const;

  // True where a world takes requests.
  bool IsReady() const;

  // A ready world that serves `model` (empty: whichever model is the only one served). Errors, as
  // proto/error.h makes them: MODEL_NOT_FOUND; INVALID_FIELD where an empty name is ambiguous;
  // WORLD_LOST, with each world's state and cause, where none is ready.
  absl::StatusOr<ChosenWorld> Choose(const std::string& model) const;

  // The facts of a world that serves `model`, ready or not: for text alone. Errors as Choose.
  absl::StatusOr<std::shared_ptr<const WorldFacts>> Facts(const std::string& model) const;

 private:
  struct Known {
    WorldClient* client;
    WorldView view;
  };
  absl::StatusOr<std::vector<Known>> Serving(const std::string& model) const;

  std::vector<std::unique_ptr<WorldClient>> clients_;
  const std::unique_ptr<const RoutingPolicy> policy_;
};

}  // namespace deltaserve
