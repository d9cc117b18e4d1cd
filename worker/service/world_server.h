#pragma once

// WorldServer: the gRPC face of rank 0: the World service over an EngineHandle, health ("" live,
// "ready") and reflection. This header knows no gRPC, so that main stays quick to compile.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/engine/engine.h"
#include "worker/engine/engine_observer.h"
#include "worker/service/world_info.h"

namespace deltaserve {

struct WorldServerOptions {
  std::string listen = "127.0.0.1:0";  // HOST:PORT; port 0 takes a free one
  // A stream that completes no write for so long, or leaves so much unread, is cancelled.
  absl::Duration stall_timeout = absl::Seconds(30);
  size_t max_pending_bytes = size_t{8} << 20;
  // Liveness (health "") is lost where a step runs for longer.
  absl::Duration live_step_age = absl::Seconds(60);
  // How often health, reports and stalled streams are looked at.
  absl::Duration tick = absl::Milliseconds(50);
  // Hears of requests that are refused before the engine sees them; null where nobody wants to
  // know. Outlives the server.
  EngineObserver* observer = nullptr;
};

// Threads: any. Owner: the worker's main, on rank 0. Requests reach the engine on gRPC's threads;
// the engine's callbacks only queue and start writes, so they never wait.
class WorldServer {
 public:
  // Listens and serves, `ready` NOT_SERVING and state STARTING until SetReady. `engine` must
  // outlive the server. Errors: InvalidArgument naming the address where it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<WorldServer>> Start(const WorldServerOptions& options,
                                                            WorldInfo info,
                                                            EngineHandle* engine);
  // Shutdown(now).
  ~WorldServer();
  WorldServer(const WorldServer&) = delete;
  WorldServer& operator=(const WorldServer&) = delete;

  int port() const;                    // the bound port
  const std::string& address() const;  // HOST:PORT with the bound port

  // Every rank is loaded and warm. A draining engine is not ready whatever is set here.
  void SetReady();
  // No longer ready: state NOT_READY with `cause`, which names rank and host.
  void SetNotReady(const std::string& cause);

  // Ends Watch streams and waits until `deadline` for the requests' streams to end; then cancels
  // them. Returns when no call is left. Idempotent.
  void Shutdown(absl::Time deadline);

 private:
  struct Parts;
  explicit WorldServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace deltaserve
