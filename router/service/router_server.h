#pragma once

// RouterServer: a router's gRPC face: the Inference service, health ("" live, "ready") and
// reflection. This header knows no gRPC services, so that main stays quick to compile.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace deltaserve {

class WorldRegistry;

struct RouterServerOptions {
  std::string listen = "127.0.0.1:0";  // HOST:PORT; port 0 takes a free one
  uint32_t default_max_tokens = 4096;  // where a request says none
  int tokenizer_threads = 2;
  // A client that completes no write for so long is cut off.
  absl::Duration stall_timeout = absl::Seconds(30);
  // So is one for whom more waits, times the answers that it asked for (n).
  size_t max_pending_bytes = size_t{8} << 20;
  absl::Duration tick = absl::Milliseconds(50);  // between looks at health and stalled streams
};

// Threads: any; Drain one at a time. Owner: the router's main.
class RouterServer {
 public:
  // Errors: InvalidArgument naming the address where it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<RouterServer>> Start(const RouterServerOptions& options,
                                                             std::unique_ptr<WorldRegistry> worlds);
  // Drain(now).
  ~RouterServer();
  RouterServer(const RouterServer&) = delete;
  RouterServer& operator=(const RouterServer&) = delete;

  const std::string& address() const;  // HOST:PORT with the bound port
  bool IsReady() const;                // a world is ready and requests are taken

  // "ready" becomes NOT_SERVING and new requests are refused with DRAINING, at once and for good.
  void BeginDrain();
  // Waits until no answer is under way; false where `deadline` came first.
  bool AwaitIdle(absl::Time deadline);
  // BeginDrain, then waits for the streams to end until `deadline`, then cancels what is left and
  // stops listening. True where every stream ended by itself. Idempotent.
  bool Drain(absl::Time deadline);

 private:
  struct Parts;
  explicit RouterServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace deltaserve
