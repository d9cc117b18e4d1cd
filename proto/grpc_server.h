#pragma once

// GrpcServer: a listener with the settings that both faces share, the health services "" (live) and
// "ready", reflection, and a heartbeat thread that keeps the two up to date.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"

namespace deltaserve {

// Largest message either way: ids of more than a million tokens.
inline constexpr int kMaxMessageBytes = 16 << 20;

struct Health {
  bool live = false;
  bool ready = false;
};

struct GrpcServerOptions {
  std::string listen;  // HOST:PORT; port 0 takes a free one
  // Clients that may ping least often: routers every 5 s, the public every 60 s; the public is also
  // bound in its streams, and asked to connect anew every 30 minutes.
  bool is_public = false;
  // Called every `interval` and after each Wake(), on the server's own thread: must not block.
  absl::Duration interval = absl::Milliseconds(50);
  std::function<Health()> heartbeat;
};

// Channel arguments of clients of such a server: no BDP probe (it would let a stalled reader pile
// up megabytes), no retries below ours, keepalive, message sizes.
grpc::ChannelArguments ClientChannelArguments();

// Threads: any. Owner: the server of a face. `services` must outlive it.
class GrpcServer {
 public:
  // Errors: InvalidArgument naming the address where it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      GrpcServerOptions options, const std::vector<grpc::Service*>& services);
  ~GrpcServer();  // Shutdown(now)
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  int port() const { return port_; }
  const std::string& address() const { return address_; }  // HOST:PORT with the bound port

  // Has the heartbeat run at once.
  void Wake();

  // Waits until `deadline` for calls to end, then cancels them; returns when none is left. The
  // heartbeat runs until then. Idempotent; one thread at a time.
  void Shutdown(absl::Time deadline);

 private:
  GrpcServer() = default;
  void Look();  // the heartbeat and what it changes
  void Beat();

  GrpcServerOptions options_;
  int port_ = 0;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool stopping_ = false;
  bool down_ = false;
  std::optional<Health> last_;  // of the thread, after Start
  std::thread thread_;
};

}  // namespace deltaserve
