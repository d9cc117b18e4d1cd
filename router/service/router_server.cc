#include "router/service/router_server.h"

#include <utility>

#include "absl/time/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/grpc_server.h"
#include "router/service/inference_service.h"
#include "router/worlds/world_registry.h"

namespace deltaserve {
namespace {

// For what is written already to leave before connections are closed.
constexpr absl::Duration kLastWrites = absl::Milliseconds(300);

}  // namespace

struct RouterServer::Parts {
  Parts(const RouterServerOptions& options, std::unique_ptr<WorldRegistry> known)
      : worlds(std::move(known)), service(options, worlds.get()) {}

  std::unique_ptr<WorldRegistry> worlds;
  InferenceService service;
  std::unique_ptr<GrpcServer> server;  // gone before the service
};

RouterServer::RouterServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(
    const RouterServerOptions& options, std::unique_ptr<WorldRegistry> worlds) {
  auto parts = std::make_unique<Parts>(options, std::move(worlds));
  GrpcServerOptions grpc_options;
  grpc_options.listen = options.listen;
  grpc_options.is_public = true;
  grpc_options.interval = options.tick;
  grpc_options.heartbeat = [service = &parts->service] { return service->Heartbeat(absl::Now()); };
  DS_ASSIGN_OR_RETURN(parts->server, GrpcServer::Start(std::move(grpc_options), {&parts->service}));
  LogInfo("listening on {}", parts->server->address());
  return std::unique_ptr<RouterServer>(new RouterServer(std::move(parts)));
}

RouterServer::~RouterServer() { Drain(absl::Now()); }

const std::string& RouterServer::address() const { return parts_->server->address(); }

bool RouterServer::IsReady() const { return parts_->worlds->IsReady(); }

void RouterServer::BeginDrain() {
  parts_->service.BeginDrain();
  parts_->server->Wake();
}

bool RouterServer::AwaitIdle(absl::Time deadline) { return parts_->service.AwaitIdle(deadline); }

bool RouterServer::Drain(absl::Time deadline) {
  BeginDrain();
  const bool idle = parts_->service.AwaitIdle(deadline);
  // No stream is left to wait for, or no time: what else is open (health watchers) is cut soon.
  parts_->server->Shutdown(absl::Now() + kLastWrites);
  return idle;
}

}  // namespace deltaserve
