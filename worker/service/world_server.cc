#include "worker/service/world_server.h"

#include <atomic>
#include <utility>

#include "absl/time/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/grpc_server.h"
#include "worker/service/world_service.h"

namespace deltaserve {
namespace {

// For what is written already to leave before connections are closed, and health watchers cut.
constexpr absl::Duration kLastWrites = absl::Milliseconds(300);

}  // namespace

struct WorldServer::Parts {
  Parts(const WorldServerOptions& options, WorldInfo info, EngineHandle* engine)
      : service(options, std::move(info), engine, [this] {
          if (GrpcServer* listening = server_for_wake.load()) listening->Wake();
        }) {}

  std::atomic<GrpcServer*> server_for_wake{nullptr};
  WorldService service;
  std::unique_ptr<GrpcServer> server;  // gone before the service
};

WorldServer::WorldServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<WorldServer>> WorldServer::Start(const WorldServerOptions& options,
                                                                WorldInfo info,
                                                                EngineHandle* engine) {
  auto parts = std::make_unique<Parts>(options, std::move(info), engine);
  GrpcServerOptions grpc_options;
  grpc_options.listen = options.listen;
  grpc_options.interval = options.tick;
  grpc_options.heartbeat = [service = &parts->service] { return service->Heartbeat(absl::Now()); };
  DS_ASSIGN_OR_RETURN(parts->server, GrpcServer::Start(std::move(grpc_options), {&parts->service}));
  parts->server_for_wake = parts->server.get();
  LogInfo("listening on {}", parts->server->address());
  return std::unique_ptr<WorldServer>(new WorldServer(std::move(parts)));
}

WorldServer::~WorldServer() { Shutdown(absl::Now()); }

int WorldServer::port() const { return parts_->server->port(); }

const std::string& WorldServer::address() const { return parts_->server->address(); }

void WorldServer::SetReady() { parts_->service.SetReady(); }

void WorldServer::SetNotReady(const std::string& cause) { parts_->service.SetNotReady(cause); }

void WorldServer::Shutdown(absl::Time deadline) {
  parts_->service.EndWatches();
  parts_->service.AwaitIdle(deadline);
  parts_->server->Shutdown(absl::Now() + kLastWrites);
}

}  // namespace deltaserve
