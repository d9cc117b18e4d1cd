#include "router/worlds/world_registry.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/base/status_macros.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

absl::Status NoneReady(const std::vector<WorldView>& views) {
  std::string states;
  for (const WorldView& view : views) {
    absl::StrAppend(&states, states.empty() ? "" : "; ", "world ", view.address, " is ",
                    StateName(view.state), view.cause.empty() ? "" : ": ", view.cause);
  }
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_WORLD_LOST);
  if (!views.empty()) detail.set_world(views.front().address);
  detail.set_remedy("try again when a world is ready");
  return MakeError(std::move(detail),
                   absl::StrCat("no world is ready (", states, "); try again when one is"));
}

absl::Status NotServed(const std::string& model, const std::set<std::string>& served) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_MODEL_NOT_FOUND);
  detail.set_field("model");
  detail.set_value(model);
  detail.set_remedy(absl::StrCat("name one of: ", absl::StrJoin(served, ", ")));
  const std::string message = absl::StrCat("model ", model, " is not served; ", detail.remedy());
  return MakeError(std::move(detail), message);
}

}  // namespace

WorldRegistry::WorldRegistry(const std::vector<WorldClientOptions>& worlds,
                             std::unique_ptr<const RoutingPolicy> policy)
    : policy_(std::move(policy)) {
  for (const WorldClientOptions& world : worlds) {
    clients_.push_back(std::make_unique<WorldClient>(world));
  }
}

std::vector<WorldView> WorldRegistry::Views() const {
  std::vector<WorldView> views;
  for (const auto& client : clients_) views.push_back(client->View());
  return views;
}

bool WorldRegistry::IsReady() const {
  for (const WorldView& view : Views()) {
    if (view.state == WorldState::kReady) return true;
  }
  return false;
}

absl::StatusOr<std::vector<WorldRegistry::Known>> WorldRegistry::Serving(
    const std::string& model) const {
  std::vector<Known> known;
  std::set<std::string> served;
  for (const auto& client : clients_) {
    WorldView view = client->View();
    if (view.facts == nullptr) continue;
    served.insert(view.facts->model().id());
    if (model.empty() || model == view.facts->model().id()) {
      known.push_back({client.get(), std::move(view)});
    }
  }
  if (served.empty()) return NoneReady(Views());
  if (known.empty()) return NotServed(model, served);
  if (model.empty() && served.size() > 1) {
    return InvalidField("model", "empty", "more than one model is served",
                        absl::StrCat("name one of: ", absl::StrJoin(served, ", ")));
  }
  return known;
}

absl::StatusOr<ChosenWorld> WorldRegistry::Choose(const std::string& model) const {
  DS_ASSIGN_OR_RETURN(std::vector<Known> known, Serving(model));
  std::vector<WorldView> ready;
  std::vector<WorldClient*> clients;
  for (const Known& one : known) {
    if (one.view.state != WorldState::kReady) continue;
    ready.push_back(one.view);
    clients.push_back(one.client);
  }
  if (ready.empty()) return NoneReady(Views());
  const size_t chosen = policy_->Choose(ready);
  return ChosenWorld{.client = clients[chosen], .facts = ready[chosen].facts};
}

absl::StatusOr<std::shared_ptr<const WorldFacts>> WorldRegistry::Facts(
    const std::string& model) const {
  DS_ASSIGN_OR_RETURN(std::vector<Known> known, Serving(model));
  return known.front().view.facts;
}

}  // namespace deltaserve
